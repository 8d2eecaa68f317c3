"""API keys: named, hashed at rest, revocable while the service runs. Needs nothing but the standard library.

    python -m token_service.keys new NAME     print a new key, then the line for the file
    python -m token_service.keys hash NAME    read a key from standard input, print the line for the file

A file holds one key per line, `NAME sha256:HEX [comment]`; empty lines and those that begin with `#` are free. A key
has 256 bits of chance, so one round of SHA-256 hides it; passwords would need more.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import logging
import re
import secrets
import sys
import time
from typing import TYPE_CHECKING

from token_service.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "sk-slipway-"
_BYTES = 32
_CHECK_SECONDS = 1.0
_LINE = re.compile(r"([A-Za-z0-9._-]{1,64}) sha256:([0-9a-f]{64})(?: .*)?")
_log = logging.getLogger(__name__)


def digest(key: bytes) -> bytes:
    """Return what the file stores of a key, 32 bytes."""
    return hashlib.sha256(key).digest()


def line(name: str, key: str) -> str:
    """Return the line of a key.

    Raises:
        ValueError: the name cannot stand in a file.
    """
    text = f"{name} sha256:{digest(key.encode()).hex()}"
    if not _LINE.fullmatch(text):
        raise ValueError(f"key name {name!r}: 1 to 64 of the characters A-Z a-z 0-9 . _ -")
    return text


def parse(text: str) -> dict[str, bytes]:
    """Return the digests in a key file by name.

    Raises:
        ValueError: a line is malformed, or a name comes twice; says which, and never shows what stands there.
    """
    found: dict[str, bytes] = {}
    for number, row in enumerate(text.splitlines(), 1):
        if not (row := row.strip()) or row.startswith("#"):
            continue
        match = _LINE.fullmatch(row)
        if match is None:
            raise ValueError(f"line {number} is not NAME sha256:HEX [comment]")
        if match[1] in found:
            raise ValueError(f"line {number} names {match[1]} again")
        found[match[1]] = bytes.fromhex(match[2])
    return found


class KeyFile:
    """The keys of one file, read again whenever it changes.

    Raises:
        StartError: the file cannot be used, or holds no key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._checked = time.monotonic()
        self._mark = None
        mend = f"python -m token_service.keys new NAME >> {path}, without the first line"
        try:
            self._mark = self._stamp()
            self._keys = parse(path.read_text())
        except (OSError, ValueError) as error:
            raise StartError(f"cannot read the key file {path}", str(error), "NAME sha256:HEX per line", mend) from None
        if not self._keys:  # nobody could use the service, and that is hardly meant
            raise StartError(f"the key file {path} holds no key", rule="NAME sha256:HEX per line", mend=mend)

    def find(self, key: bytes) -> str | None:
        """Return the name of a key; the time does not tell which keys exist."""
        self._refresh()
        sent, found = digest(key), None
        for name, known in self._keys.items():  # to the end, whatever was found
            if hmac.compare_digest(sent, known):
                found = name
        return found

    def _stamp(self) -> tuple[int, int, int]:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_ino, status.st_size

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._checked < _CHECK_SECONDS:
            return
        self._checked = now
        try:
            mark = self._stamp()
            if mark == self._mark:
                return
            self._keys = parse(self._path.read_text())
        except (OSError, ValueError) as error:
            _log.error("the key file is broken, its last good version counts", extra={"reason": str(error)})
            return
        self._mark = mark
        _log.info("key file read", extra={"keys": sorted(self._keys)})


def main(arguments: list[str] | None = None) -> int:
    """Run the command line above; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["new", "hash"])
    parser.add_argument("name")
    options = parser.parse_args(arguments)
    new = options.command == "new"
    key = PREFIX + secrets.token_urlsafe(_BYTES) if new else sys.stdin.readline().strip()
    if not key:
        sys.stderr.write("token_service: no key on standard input\n")
        return 1
    try:
        row = line(options.name, key)
    except ValueError as error:
        sys.stderr.write(f"token_service: {error}\n")
        return 1
    sys.stdout.write(f"{key}\n{row}\n" if new else f"{row}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
