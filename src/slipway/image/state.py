"""What was built and pushed last: `.slipway/images/NAME.json`, one small file per image."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from slipway import paths
from slipway.files import write_atomic


@dataclass
class Record:
    """The last finished build of an image.

    Attributes:
        name: The image.
        key: SHA-256 over everything that went into it.
        identity: The engine's id of the image; in containerd's store this is the digest that a registry shows.
        size: Bytes as the engine counts them.
        pushed: Registry -> what `slipway image push` wrote for it.
    """

    name: str
    key: str
    identity: str
    size: int
    pushed: dict[str, dict[str, str | int]] = field(default_factory=dict)

    @property
    def tag(self) -> str:
        """The image's tag: the first 12 digits of its key."""
        return self.key[:12]

    def save(self) -> None:
        """Write the record; a crash leaves the old one."""
        write_atomic(paths.STATE / "images" / f"{self.name}.json", json.dumps(asdict(self), indent=1) + "\n")


def read_record(name: str) -> Record | None:
    """Return the record of an image; none when it was never built or the record cannot be read."""
    try:
        return Record(**json.loads((paths.STATE / "images" / f"{name}.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None
