# ruff: noqa: INP001 - Ansible finds modules by their path, not as a package
"""Ansible module: everything that provisioning asks about a host's container engine, in one call."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule  # type: ignore[import-untyped]

DOCUMENTATION = r"""
module: container_engine_info
short_description: Report the container engine, its swarm, the init system and the free disk of a host
description:
  - Changes nothing. One call instead of a dozen tasks keeps the second deployment fast.
options:
  state_dir: {type: path, required: true, description: Folder with what Slipway recorded about this host.}
  daemon_json: {type: path, default: /etc/docker/daemon.json, description: The engine's configuration file.}
  disk:
    description: Needed space, as a list of C(path), C(gib) and C(why).
    type: list
    elements: dict
    default: []
  wait: {type: float, default: 0, description: Seconds to wait until the engine answers.}
author: [Slipway]
"""

EXAMPLES = r"""
- name: Look at the engine
  container_engine_info:
    state_dir: /var/lib/slipway
  register: __engine
"""

RETURN = r"""
answers: {type: bool, returned: always, description: Whether the engine answered C(docker info).}
client: {type: str, returned: always, description: First docker client that has buildx; empty when there is none.}
dockerd: {type: str, returned: always, description: Path of an installed dockerd, answering or not.}
records: {type: dict, returned: always, description: What Slipway recorded, one object per file of the state folder.}
swarm: {type: dict, returned: always, description: State of the swarm as this node sees it.}
disk: {type: list, returned: always, description: Needed and free GiB per file system.}
"""

SBIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
POLL_SECONDS = 0.3
COMMAND_TIMEOUT = 20


def run(*command: str) -> tuple[int, str, str]:
    """Run a command in the C locale; a missing binary or a timeout is status 127, never an exception."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PATH": f"{os.environ.get('PATH', '')}:{SBIN_PATH}"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, "", str(error)
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def first_version(text: str) -> str:
    """Return the first dotted number in `text`, for example `26.1.5` of `Docker version 26.1.5+dfsg1`."""
    found = re.search(r"\d+\.\d+(\.\d+)*", text)
    return found.group(0) if found else ""


def clients(search_path: str) -> list[str]:
    """Return docker clients, the distribution's first: a client in /usr/local is often older and without buildx."""
    places = ["/usr/bin", *search_path.split(":"), "/usr/local/bin"]
    found = [str(Path(place) / "docker") for place in dict.fromkeys(places) if place]
    return [client for client in found if os.access(client, os.X_OK)]


def client_with_buildx(candidates: list[str]) -> tuple[str, str]:
    """Return the first client whose buildx plugin answers, and buildx's version; two empty strings when none does."""
    for client in candidates:
        status, output, _ = run(client, "buildx", "version")
        if status == 0:
            return client, first_version(output)
    return "", ""


def engine(client: str) -> dict[str, Any]:
    """Ask the engine about itself; `answers` is False, with the client's words in `error`, when it does not."""
    status, output, error = run(client, "info", "--format", "{{json .}}")
    try:
        told = json.loads(output) if output else {}
    except ValueError:
        told = {}
    problems = told.get("ServerErrors") or []
    if status != 0 or problems or not told.get("ServerVersion"):
        return {"answers": False, "error": "; ".join([*problems, error]).strip("; ")}
    status_rows = dict(row for row in told.get("DriverStatus") or [] if len(row) == 2)  # noqa: PLR2004 - pairs
    return {
        "answers": True,
        "error": "",
        "server_version": first_version(told["ServerVersion"]),
        "containerd_store": status_rows.get("driver-type") == "io.containerd.snapshotter.v1",
        "data_root": told.get("DockerRootDir", ""),
        "swarm": swarm(told.get("Swarm") or {}, client),
    }


def swarm(told: dict[str, Any], client: str) -> dict[str, Any]:
    """Reduce docker's answer to what the swarm role decides on; labels are those of this node, on a manager."""
    manager = bool(told.get("ControlAvailable"))
    labels: dict[str, str] = {}
    if manager:
        status, output, _ = run(client, "node", "inspect", "self", "--format", "{{json .Spec.Labels}}")
        labels = json.loads(output) or {} if status == 0 and output else {}
    return {
        "state": told.get("LocalNodeState", "inactive"),
        "manager": manager,
        "cluster": (told.get("Cluster") or {}).get("ID", ""),
        "address": told.get("NodeAddr", ""),
        "managers": [row.get("Addr", "") for row in told.get("RemoteManagers") or []],
        "error": told.get("Error", ""),
        "labels": labels,
    }


def init_system(root: Path = Path("/")) -> str:
    """Return `systemd`, `sysvinit` or `none` from what runs as PID 1, not from what is installed."""
    if (root / "run/systemd/system").is_dir():
        return "systemd"
    try:
        name = (root / "proc/1/comm").read_text().strip()
    except OSError:
        name = ""
    return "sysvinit" if name == "init" and (root / "etc/inittab").is_file() else "none"


def distribution(root: Path = Path("/")) -> dict[str, str]:
    """Return id, major version, code name and printed name of the distribution (os-release)."""
    fields: dict[str, str] = {}
    for place in ("etc/os-release", "usr/lib/os-release"):
        if (root / place).is_file():
            lines = (root / place).read_text().splitlines()
            fields = {key: value.strip("\"'") for key, _, value in (line.partition("=") for line in lines) if value}
            break
    return {
        "id": fields.get("ID", "unknown"),
        "version": fields.get("VERSION_ID", "").split(".")[0],
        "codename": fields.get("VERSION_CODENAME", ""),
        "name": fields.get("PRETTY_NAME", "an unknown distribution"),
    }


def disk_needs(needs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add up the needs per file system; a path that does not exist yet counts for its nearest parent."""
    rows: dict[int, dict[str, Any]] = {}
    for need in needs:
        place = Path(need["path"])
        while not place.exists():
            place = place.parent
        row = rows.setdefault(
            place.stat().st_dev, {"paths": [], "gib": 0.0, "why": [], "free": shutil.disk_usage(place).free / 2**30}
        )
        row["paths"].append(str(need["path"]))
        row["gib"] += float(need["gib"])
        row["why"].append(f"{need['gib']} GiB at {need['path']}: {need['why']}")
    return [{**row, "free": round(row["free"], 1), "enough": row["free"] >= row["gib"]} for row in rows.values()]


def read_json(path: Path) -> tuple[dict[str, Any], str]:
    """Return the object in a JSON file and why it could not be read; a missing or empty file is an empty object."""
    try:
        text = path.read_text()
        content = json.loads(text) if text.strip() else {}
    except FileNotFoundError:
        return {}, ""
    except (OSError, ValueError) as error:
        return {}, str(error)
    return (content, "") if isinstance(content, dict) else ({}, f"holds a {type(content).__name__}, not an object")


def main() -> None:
    """Gather, wait where asked to, answer."""
    module = AnsibleModule(
        argument_spec={
            "state_dir": {"type": "path", "required": True},
            "daemon_json": {"type": "path", "default": "/etc/docker/daemon.json"},
            "disk": {"type": "list", "elements": "dict", "default": []},
            "wait": {"type": "float", "default": 0},
        },
        supports_check_mode=True,
    )
    candidates = clients(os.environ.get("PATH", ""))
    client, buildx = client_with_buildx(candidates)
    asked = client or (candidates or ["docker"])[0]
    deadline = time.monotonic() + module.params["wait"]
    answer = engine(asked)
    while not answer["answers"] and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        answer = engine(asked)

    dockerd = "" if answer["answers"] else shutil.which("dockerd", path=SBIN_PATH) or ""
    records = {path.stem: read_json(path) for path in sorted(Path(module.params["state_dir"]).glob("*.json"))}
    daemon, daemon_error = read_json(Path(module.params["daemon_json"]))
    module.exit_json(
        changed=False,
        client=client,
        clients=candidates,
        buildx=buildx,
        dockerd=dockerd,
        dockerd_version=first_version(run(dockerd, "--version")[1]) if dockerd else "",
        init=init_system(),
        distribution=distribution(),
        disk=disk_needs(module.params["disk"]),
        records={name: content for name, (content, _) in records.items()},
        records_error="; ".join(f"{name}.json: {error}" for name, (_, error) in records.items() if error),
        daemon_json=daemon,
        daemon_json_error=daemon_error,
        daemon_json_exists=Path(module.params["daemon_json"]).exists(),
        **{"server_version": "", "containerd_store": False, "data_root": "", "swarm": swarm({}, asked), **answer},
    )


if __name__ == "__main__":
    main()
