"""The pure parts of role container_engine: its module's answers and the plan for daemon.json."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import pytest

from slipway.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

_ROLE = ROOT / "roles" / "container_engine"
_OPTIONS = {"features": {"containerd-snapshotter": True}, "log-driver": "json-file", "log-opts": {"max-size": "10m"}}


def _load(name: str, path: Path) -> ModuleType:
    """Import a file that Ansible finds by its path."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


info = _load("container_engine_info", _ROLE / "library" / "container_engine_info.py")
daemon_json = _load("daemon_json", _ROLE / "filter_plugins" / "daemon_json.py")


def test_a_new_configuration_is_all_ours() -> None:
    """On a bare host the file holds the options, and removal leaves nothing."""
    plan = daemon_json.plan({}, {}, _OPTIONS)
    assert plan == {"foreign": {}, "desired": _OPTIONS, "ours": _OPTIONS}


def test_foreign_keys_and_values_stay() -> None:
    """A key that is already there keeps its value, in nested objects too, and is not recorded as ours."""
    current = {"registry-mirrors": ["m"], "features": {"containerd-snapshotter": False, "x": True}}
    plan = daemon_json.plan(current, {}, _OPTIONS)
    assert plan["desired"]["features"] == {"containerd-snapshotter": False, "x": True}
    assert plan["desired"]["registry-mirrors"] == ["m"]
    assert plan["ours"] == {"log-driver": "json-file", "log-opts": {"max-size": "10m"}}


def test_a_foreign_log_driver_gets_no_options_of_ours() -> None:
    """`max-size` is an error to journald."""
    assert daemon_json.plan({"log-driver": "journald"}, {}, _OPTIONS)["desired"] == {
        "log-driver": "journald",
        "features": {"containerd-snapshotter": True},
    }


def test_a_second_run_plans_the_same_file() -> None:
    """What the first run wrote is recognised as ours, so nothing changes."""
    first = daemon_json.plan({"debug": True}, {}, _OPTIONS)
    second = daemon_json.plan(first["desired"], first["ours"], _OPTIONS)
    assert second["desired"] == first["desired"]
    assert second["ours"] == first["ours"]


def test_a_changed_option_replaces_our_earlier_value() -> None:
    """Our own value from an earlier run is not mistaken for a foreign one."""
    first = daemon_json.plan({}, {}, _OPTIONS)
    wanted = {**_OPTIONS, "log-opts": {"max-size": "20m"}}
    assert daemon_json.plan(first["desired"], first["ours"], wanted)["desired"] == wanted


@pytest.mark.parametrize("current", [{}, {"debug": True}, {"features": {}}, {"log-opts": {"labels": "a"}}])
def test_removal_gives_back_what_was_there(current: dict[str, Any]) -> None:
    """Taking our keys out again leaves exactly the file of before."""
    plan = daemon_json.plan(current, {}, _OPTIONS)
    given_back = daemon_json.plan(plan["desired"], plan["ours"], {})["foreign"]
    assert given_back == {key: value for key, value in current.items() if value != {}} or given_back == current


def test_disk_needs_add_up_per_file_system(tmp_path: Path) -> None:
    """Two folders on one file system need the sum; a folder that is not there yet counts for its parent."""
    (row,) = info.disk_needs(
        [
            {"path": str(tmp_path / "a" / "b"), "gib": 1.5, "why": "x"},
            {"path": str(tmp_path), "gib": 1, "why": "y"},
        ]
    )
    assert row["gib"] == 2.5
    assert row["paths"] == [str(tmp_path / "a" / "b"), str(tmp_path)]
    assert row["enough"]


def test_a_disk_that_is_too_small_is_told(tmp_path: Path) -> None:
    """The answer carries what is free and why so much is needed."""
    (row,) = info.disk_needs([{"path": str(tmp_path), "gib": 10**6, "why": "a library"}])
    assert not row["enough"]
    assert 0 < row["free"] < 10**6
    assert row["why"] == [f"1000000 GiB at {tmp_path}: a library"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"run/systemd/system/x": "", "proc/1/comm": "systemd"}, "systemd"),
        ({"proc/1/comm": "init\n", "etc/inittab": ""}, "sysvinit"),
        ({"proc/1/comm": "init\n"}, "none"),
        ({"proc/1/comm": "docker-init\n", "etc/inittab": ""}, "none"),
        ({}, "none"),
    ],
)
def test_init_system_is_what_runs(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    """What runs as PID 1 decides, not what is installed."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert info.init_system(tmp_path) == expected


def test_distribution_is_read_from_os_release(tmp_path: Path) -> None:
    """Quotes go, a point release counts for its release."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('ID=debian\nVERSION_ID="12.9"\nPRETTY_NAME="Debian 12"\n\n# note\n')
    assert info.distribution(tmp_path) == {"id": "debian", "version": "12", "codename": "", "name": "Debian 12"}


def test_distribution_that_is_not_told_is_unknown(tmp_path: Path) -> None:
    """A host without os-release is refused by name too."""
    assert info.distribution(tmp_path)["id"] == "unknown"


@pytest.mark.parametrize(("text", "problem"), [("{", "Expecting"), ("[1]", "holds a list")])
def test_json_that_is_no_object_is_a_problem(tmp_path: Path, text: str, problem: str) -> None:
    """The reason is told, nothing is guessed."""
    (tmp_path / "daemon.json").write_text(text)
    content, error = info.read_json(tmp_path / "daemon.json")
    assert content == {}
    assert problem in error


@pytest.mark.parametrize("name", ["missing.json", "empty.json"])
def test_missing_or_empty_json_is_an_empty_object(tmp_path: Path, name: str) -> None:
    """The engine reads an empty daemon.json as one without settings; so does the role."""
    (tmp_path / "empty.json").write_text("\n")
    assert info.read_json(tmp_path / name) == ({}, "")


def test_client_without_buildx_is_passed_over(tmp_path: Path) -> None:
    """A stale client that comes first on PATH does not hide one with buildx."""
    stale, good = tmp_path / "stale", tmp_path / "good"
    stale.write_text("#!/bin/sh\nexit 1\n")
    good.write_text('#!/bin/sh\n[ "$1" = buildx ] && echo "github.com/docker/buildx 0.13.1 1"\n')
    for client in (stale, good):
        client.chmod(0o755)
    assert info.client_with_buildx([str(stale), str(good)]) == (str(good), "0.13.1")
    assert info.client_with_buildx([str(stale)]) == ("", "")


def test_engine_that_does_not_answer_says_why(tmp_path: Path) -> None:
    """The client's own words reach the message."""
    client = tmp_path / "docker"
    client.write_text('#!/bin/sh\necho \'{"ServerErrors": ["Cannot connect"]}\'; echo more >&2; exit 1\n')
    client.chmod(0o755)
    assert info.engine(str(client)) == {"answers": False, "error": "Cannot connect; more"}


def test_a_missing_client_is_no_exception() -> None:
    """A bare host has no client at all."""
    assert not info.engine("/nowhere/docker")["answers"]
