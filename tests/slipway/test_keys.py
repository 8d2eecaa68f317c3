"""The operator's store of API keys."""

from __future__ import annotations

import hashlib
import stat
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from slipway import keys, paths
from slipway.errors import SlipwayError
from slipway.flow import mutex
from slipway.keys import DEFAULT, Store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of secrets of the test's own, in a checkout where nothing is deployed."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "SECRETS", tmp_path / "secrets")
    monkeypatch.setattr(keys, "deployed_service", lambda: None)
    monkeypatch.setattr(mutex, "lock_path", lambda _: tmp_path / "lock")
    return tmp_path / "secrets"


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_first_key_is_made_once(secrets: Path) -> None:
    """A second call changes nothing; key, store and folder are for their owner alone."""
    store = Store()
    assert store.ensure() is True
    key = (secrets / "api-key").read_text().strip()
    assert store.ensure() is False
    assert (secrets / "api-key").read_text().strip() == key
    assert store.read()[DEFAULT].sha256 == hashlib.sha256(key.encode()).hexdigest()
    assert key not in store.file.read_text()
    assert [_mode(path) for path in (secrets, store.file, secrets / "api-key")] == [0o700, 0o600, 0o600]


def test_key_of_the_operators_own_is_taken(secrets: Path) -> None:
    """A key that somebody wrote into the file, or that an earlier version left, is the one that counts."""
    secrets.mkdir()
    (secrets / "api-key").write_text("chosen\n")
    assert Store().ensure() is True
    assert Store().read()[DEFAULT].sha256 == hashlib.sha256(b"chosen").hexdigest()


def test_lost_key_is_replaced(secrets: Path) -> None:
    """A checksum whose key is gone helps nobody."""
    store = Store()
    store.ensure()
    before = store.read()[DEFAULT]
    (secrets / "api-key").unlink()
    assert store.ensure() is True
    assert store.read()[DEFAULT] != before


def test_keys_come_and_go_by_name(secrets: Path) -> None:
    """Adding and revoking touch one line; the revoked key's file goes too."""
    store = Store()
    store.ensure()
    default = store.read()[DEFAULT]
    file = store.add("alice")
    assert file == secrets / "alice.key"
    assert _mode(file) == 0o600
    assert file.read_text().startswith("sk-slipway-")
    assert store.read()["alice"].sha256 == hashlib.sha256(file.read_text().strip().encode()).hexdigest()
    store.revoke("alice")
    assert store.read() == {DEFAULT: default}
    assert not file.exists()


@pytest.mark.parametrize("name", ["", "two words", "../up", "a\nb", "-x", "x" * 65])
def test_malformed_names_are_refused(name: str) -> None:
    """A name is a word in a file, a file name and a field of the log."""
    with pytest.raises(SlipwayError, match="no name"):
        Store().add(name)


def test_taken_and_unknown_names_are_refused() -> None:
    """The message says what to run."""
    Store().add("alice")
    with pytest.raises(SlipwayError, match="already") as taken:
        Store().add("alice")
    assert "revoke alice" in taken.value.run
    with pytest.raises(SlipwayError, match="no key of bob") as unknown:
        Store().revoke("bob")
    assert "alice" in unknown.value.seen


def test_damaged_store_is_named_with_its_line(secrets: Path) -> None:
    """It is not overwritten."""
    secrets.mkdir()
    (secrets / "api-keys").write_text("# comment\n\nalice 12345\n")
    with pytest.raises(SlipwayError, match="damaged") as caught:
        Store().ensure()
    assert caught.value.seen == "line 3: alice 12345"


def test_metrics_keys_are_apart(secrets: Path) -> None:
    """Neither opens what the other does."""
    Store("metrics").ensure()
    Store("metrics").add("prometheus")
    assert Store("api").read() == {}
    assert sorted(path.name for path in secrets.iterdir()) == [
        "metrics-key",
        "metrics-keys",
        "prometheus.metrics-key",
    ]


def test_commands_never_print_a_key(secrets: Path) -> None:
    """They name the file; without a deployment they say when the key comes into force."""
    run = CliRunner().invoke
    added = run(keys.command, ["add", "alice"])
    assert added.exit_code == 0, added.output
    key = (secrets / "alice.key").read_text().strip()
    assert "secrets/alice.key" in added.output
    assert "next `nox -s deploy`" in added.output
    listed = run(keys.command, ["list"])
    assert listed.output.startswith("alice  20")
    assert key not in added.output + listed.output


def test_revoked_default_key_is_replaced(secrets: Path) -> None:
    """The operator's own tools go on working with the new one."""
    Store().ensure()
    before = (secrets / "api-key").read_text()
    assert CliRunner().invoke(keys.command, ["revoke", DEFAULT]).exit_code == 0
    assert (secrets / "api-key").read_text() != before
    assert list(Store().read()) == [DEFAULT]
