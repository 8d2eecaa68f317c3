"""`slipway keys`: who may call the service. The service holds checksums alone; each key is in one file of the operator.

A store is a text file, one line per key: `NAME sha256:HEX CREATED`. It is what hosts get; the service reads it again
when it changes, so that nothing restarts.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from slipway import paths
from slipway.errors import SlipwayError
from slipway.files import write_atomic
from slipway.flow.inventory import require_inventory
from slipway.flow.mutex import exclusive
from slipway.flow.runner import run_playbook
from slipway.flow.service import deployed_service
from slipway.options import json_option
from slipway.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEFAULT = "default"
"""Name of the key that deploy makes: the one that its curl line, `nox -s verify` and `nox -s chat` use."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HEADER = "# Checksums of keys. Managed by `nox -s keys`; do not edit.\n"


@dataclass(frozen=True)
class Entry:
    """What is known of a key: SHA-256 of its text in hexadecimal, and the day it was made."""

    sha256: str
    created: str


@dataclass(frozen=True)
class Store:
    """The keys of one kind: `api` for the API, `metrics` for `/metrics`."""

    kind: str = "api"

    @property
    def file(self) -> Path:
        """The checksums, as hosts get them."""
        return paths.SECRETS / f"{self.kind}-keys"

    def key_file(self, name: str) -> Path:
        """Return where the key of `name` is kept, readable by its owner alone."""
        if name == DEFAULT:
            return paths.SECRETS / f"{self.kind}-key"
        return paths.SECRETS / (f"{name}.key" if self.kind == "api" else f"{name}.{self.kind}-key")

    def read(self) -> dict[str, Entry]:
        """Return name -> entry.

        Raises:
            SlipwayError: a line is not `NAME sha256:HEX CREATED`.
        """
        found: dict[str, Entry] = {}
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.is_file() else []
        for number, line in enumerate(lines, 1):
            name, _, rest = line.partition(" ")
            digest, _, created = rest.partition(" ")
            if not line or line.startswith("#"):
                continue
            if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
                raise SlipwayError(
                    "the list of keys is damaged",
                    seen=f"line {number}: {line[:100]}",
                    rule="NAME sha256:HEX CREATED",
                    edit=str(self.file),
                    run="nox -s keys -- list",
                )
            found[name] = Entry(digest.removeprefix("sha256:"), created)
        return found

    def ensure(self) -> bool:
        """Make the key of `DEFAULT` unless it is there; its file decides. Return whether anything changed."""
        entries, file = self.read(), self.key_file(DEFAULT)
        if not file.is_file():
            self._put(entries, DEFAULT, _new_key())
            return True
        key = file.read_text(encoding="utf-8").strip()
        if DEFAULT in entries and entries[DEFAULT].sha256 == _digest(key):
            return False
        self._put(entries, DEFAULT, key)
        return True

    def add(self, name: str) -> Path:
        """Make a key and return the file that holds it.

        Raises:
            SlipwayError: the name is malformed or taken.
        """
        entries = self.read()
        if not _NAME.fullmatch(name):
            raise SlipwayError(
                "this is no name for a key",
                seen=name[:100],
                rule="letters, digits, dots, dashes and underscores, 64 at most; access logs show it",
                run="nox -s keys -- add NAME",
            )
        if name in entries:
            raise SlipwayError(
                f"{name} has a key already",
                seen=f"created {entries[name].created}",
                rule="one key per name",
                run=f"nox -s keys -- revoke {name}",
            )
        self._put(entries, name, _new_key())
        return self.key_file(name)

    def revoke(self, name: str) -> None:
        """Forget a key and remove its file.

        Raises:
            SlipwayError: nobody of this name has one.
        """
        entries = self.read()
        if name not in entries:
            raise SlipwayError(
                f"there is no key of {name}",
                seen=f"keys of {', '.join(entries) or 'nobody'}",
                rule="a name of the list",
                run="nox -s keys -- list",
            )
        del entries[name]
        self._write(entries)
        self.key_file(name).unlink(missing_ok=True)

    def _put(self, entries: dict[str, Entry], name: str, key: str) -> None:
        """Store a key; its own file first, so that a crash never leaves a checksum whose key nobody has."""
        paths.SECRETS.mkdir(parents=True, exist_ok=True)
        paths.SECRETS.chmod(0o700)
        write_atomic(self.key_file(name), f"{key}\n", 0o600)
        today = dt.datetime.now(dt.UTC).date().isoformat()
        self._write({**entries, name: Entry(_digest(key), today)})

    def _write(self, entries: dict[str, Entry]) -> None:
        lines = [f"{name} sha256:{entry.sha256} {entry.created}\n" for name, entry in entries.items()]
        write_atomic(self.file, "".join([_HEADER, *lines]), 0o600)


def _new_key() -> str:
    return f"sk-slipway-{secrets.token_urlsafe(32)}"


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _publish(inventory: str) -> None:
    """Bring the checksums to the hosts of a running deployment."""
    if deployed_service() is None:
        say("keys: nothing is deployed; the next `nox -s deploy` takes them along")
        return
    run_playbook("keys", inventory, [])
    say("keys: in force within a second; nothing restarts")


_inventory_option = click.option("--inventory", default="local", show_default=True, help="Folder under inventories/.")


def _kind_option(function: Callable[..., None]) -> Callable[..., None]:
    """Add `--api` and `--metrics`."""
    metrics = click.option("--metrics", "kind", flag_value="metrics", help="Keys of /metrics.")
    api = click.option("--api", "kind", flag_value="api", default=True, help="Keys of the API (default).")
    return api(metrics(function))


@click.group()
def command() -> None:
    """Add, revoke and list the keys of the service's API."""


@command.command("add")
@click.argument("name")
@_kind_option
@_inventory_option
def add_command(name: str, kind: str, inventory: str) -> None:
    """Make a key for NAME; it is written to a file and never printed."""
    require_inventory(inventory)
    with exclusive(inventory, "keys"):
        file = Store(kind).add(name)
        _publish(inventory)
    click.echo(f"The key of {name} is in {file.relative_to(paths.ROOT)}; hand it over and remove the file.")


@command.command("revoke")
@click.argument("name")
@_kind_option
@_inventory_option
def revoke_command(name: str, kind: str, inventory: str) -> None:
    """Refuse the key of NAME from now on; `default` gets a new one."""
    require_inventory(inventory)
    with exclusive(inventory, "keys"):
        store = Store(kind)
        store.revoke(name)
        if name == DEFAULT:
            store.ensure()
        _publish(inventory)
    click.echo(f"The key of {name} is revoked.")


@command.command("list")
@_kind_option
def list_command(kind: str) -> None:
    """Show names and the days their keys were made."""
    entries = Store(kind).read()
    width = max(map(len, entries), default=0)
    for name, entry in entries.items():
        click.echo(f"{name:<{width}}  {entry.created}")


@command.command("ensure", hidden=True)
@_kind_option
@json_option
def ensure_command(kind: str, as_json: bool) -> None:  # noqa: FBT001 - click passes flags so
    """Make the default key unless there is one; the deploy stage calls this."""
    changed = Store(kind).ensure()
    if as_json:
        click.echo(json.dumps({"changed": changed}))
