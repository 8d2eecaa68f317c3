"""Read YAML written by hand, keeping line numbers so that a message can point at the line to mend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError

from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from pathlib import Path


class YamlFile:
    """One hand-written file and what it holds.

    Args:
        path: The file; messages name it by its last part.

    Raises:
        SlipwayError: the file is missing, is not YAML or is not a mapping.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        try:
            content = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise SlipwayError(f"{self.name} is missing", rule="it stands in the checkout", edit=self.name) from error
        except MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise SlipwayError(
                f"{self.name}:{line} is not YAML",
                seen=str(error.problem),
                rule="valid YAML",
                edit=f"{self.name}:{line}",
            ) from error
        if not isinstance(content, CommentedMap):
            self.fail(1, "the file", type(content).__name__, "a mapping of keys to values")
        self.root: CommentedMap = content

    def fail(self, line: int, what: str, seen: object, rule: str) -> NoReturn:
        """Raise the error that points at `line`.

        Raises:
            SlipwayError: always.
        """
        raise SlipwayError(
            f"{self.name}:{line}: {what} is not what was expected",
            seen=repr(seen) if isinstance(seen, str) else str(seen),
            rule=rule,
            edit=f"{self.name}:{line}",
            run="nox -s lock",
        )

    def line(self, parent: Any, key: str | int) -> int:  # noqa: ANN401 - ruamel subclasses list and dict
        """Return the 1-based line of an entry of `parent`."""
        try:
            position = parent.lc.item(key) if isinstance(parent, CommentedSeq) else parent.lc.key(key)
        except (KeyError, AttributeError):
            return 1
        return int(position[0]) + 1

    def check_keys(self, parent: CommentedMap, allowed: set[str], required: set[str]) -> None:
        """Check that a mapping has all `required` keys and no other than `allowed` ones.

        Raises:
            SlipwayError: a key is unknown or missing.
        """
        for key in parent:
            if key not in allowed:
                self.fail(self.line(parent, key), "the key", key, f"one of {', '.join(sorted(allowed))}")
        for key in sorted(required - set(parent)):
            self.fail(
                int(parent.lc.line or 0) + 1, f"a mapping without the key {key}", ", ".join(parent), f"{key}: ..."
            )

    def text(self, parent: CommentedMap, key: str, default: str = "") -> str:
        """Return a text value.

        Raises:
            SlipwayError: it is not a text.
        """
        value = parent.get(key, default)
        if not isinstance(value, str):
            self.fail(self.line(parent, key), key, value, "a text")
        return str(value)

    def texts(self, parent: CommentedMap, key: str) -> list[str]:
        """Return a list of texts; a missing key gives an empty list.

        Raises:
            SlipwayError: it is not a list, or one of its entries is not a text.
        """
        value: Any = parent.get(key, [])
        if not isinstance(value, list):
            self.fail(self.line(parent, key), key, value, "a list of texts")
        for index, item in enumerate(value):
            if not isinstance(item, str):
                self.fail(self.line(value, index), f"entry {index + 1} of {key}", item, "a text")
        return [str(item) for item in value]

    def mapping(self, parent: CommentedMap, key: str) -> CommentedMap:
        """Return a mapping; a missing key gives an empty one.

        Raises:
            SlipwayError: it is not a mapping.
        """
        value = parent.get(key, CommentedMap())
        if not isinstance(value, CommentedMap):
            self.fail(self.line(parent, key), key, value, "a mapping of keys to values")
        return value
