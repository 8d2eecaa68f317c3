"""images/hierarchy.yml: order, families, and messages that name the line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from slipway.errors import SlipwayError
from slipway.image.hierarchy import load

if TYPE_CHECKING:
    from pathlib import Path


def test_parents_come_first(checkout: Path) -> None:
    """The build order puts what an image needs before it, the builder of its environment included."""
    hierarchy = load(checkout / "images/hierarchy.yml")
    assert hierarchy.names == ["base", "builder", "service"]
    assert hierarchy.select(["service"]) == ["base", "builder", "service"]
    assert hierarchy.select(["base"]) == ["base"]
    assert hierarchy.ancestors("service") == ["base"]


def test_build_images_are_not_pushed(checkout: Path) -> None:
    """What only builds use stays off the registry."""
    hierarchy = load(checkout / "images/hierarchy.yml")
    assert [name for name in hierarchy.names if hierarchy[name].pushed] == ["base", "service"]


def test_unknown_name_is_answered_with_the_names(checkout: Path) -> None:
    """A wrong name lists the right ones."""
    with pytest.raises(SlipwayError, match="base, builder, service"):
        load(checkout / "images/hierarchy.yml").select(["servce"])


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("kind: build", "kind: tool", 7, "builder: kind: tool"),
        ("parent: base\n    kind: build", "parnt: base\n    kind: build", 6, "parnt"),
        ("parent: base\n    kind: build", "parent: bas\n    kind: build", 6, "builder needs bas"),
        ("parent: base\n    kind: build", "kind: build", 5, "only a rootfs has no parent"),
        ("parent: base\n    kind: service", "parent: service\n    kind: service", 9, "own ancestor"),
        ("debs: [libc6]", "debs: libc6", 4, "a list of Debian package names"),
        ("application: app", "application: [app]", 12, "a name"),
        ("images:\n", "images: [\n", 3, "malformed"),
    ],
)
def test_mistake_is_reported_with_its_line(checkout: Path, old: str, new: str, line: int, message: str) -> None:
    """The message gives file, line and what was found."""
    path = checkout / "images/hierarchy.yml"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(SlipwayError) as caught:
        load(path)
    assert message in str(caught.value)
    assert caught.value.edit == f"{path}:{line}"


def test_missing_file_is_named(checkout: Path) -> None:
    """A checkout without the file says which."""
    with pytest.raises(SlipwayError, match=r"none\.yml"):
        load(checkout / "none.yml")
