"""Ansible module: refuse a TCP port that somebody else listens on, and say who."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: slipway_port
short_description: Check that a TCP port is free or held by one of Slipway's own containers
description:
  - Reads the listening sockets from /proc, so that it needs no tool on the host.
  - Fails with the holder's process, the setting to change and the command to run next.
options:
  port:
    description: Port to check, 1 to 65535.
    type: int
    required: true
  setting:
    description: Inventory variable that sets the port; named in the message.
    type: str
    required: true
  client:
    description: Path of a Docker client; a container of Slipway that publishes the port is no conflict.
    type: path
"""

_LISTEN = "0A"
"""State column of /proc/net/tcp for a listening socket (Linux include/net/tcp_states.h)."""

_PORT_MAX = 65535


def listening_inodes(port: int, proc: Path = Path("/proc")) -> set[str]:
    """Return the socket inodes that listen on `port`, over IPv4 or IPv6."""
    inodes = set()
    for table in ("net/tcp", "net/tcp6"):
        path = proc / table
        if not path.is_file():
            continue
        for line in path.read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(fields[9])
    return inodes


def find_holder(port: int, proc: Path = Path("/proc")) -> str | None:
    """Return a description of the process that listens on `port`, or None when nobody does."""
    inodes = listening_inodes(port, proc)
    if not inodes:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(str(handle.readlink()) in wanted for handle in (process / "fd").iterdir()):
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                return f"process {process.name} ({words})"
    return "a process that could not be identified"


def main() -> None:
    """Check one port."""
    module = AnsibleModule(
        argument_spec={
            "port": {"type": "int", "required": True},
            "setting": {"type": "str", "required": True},
            "client": {"type": "path"},
        },
        supports_check_mode=True,
    )
    port, setting, client = module.params["port"], module.params["setting"], module.params["client"]
    if not 1 <= port <= _PORT_MAX:
        module.fail_json(
            msg=f"{setting} is no TCP port.\n"
            f"  seen: {port}\n"
            f"  rule: 1 to {_PORT_MAX}\n"
            f"  edit: {setting} in the inventory's group_vars/all/vars.yml\n"
            "  run: the same command again"
        )
    holder = find_holder(port)
    if holder is None:
        module.exit_json(changed=False, holder=None)
    # A bare host has no client yet, and so no container of ours.
    if client and Path(client).exists():
        _, output, _ = module.run_command(
            [client, "ps", "-q", "--filter", f"publish={port}", "--filter", "label=com.slipway.managed=true"]
        )
        if output.strip():
            module.exit_json(changed=False, holder="slipway")
    module.fail_json(
        msg=f"Port {port} is taken.\n"
        f"  seen: {holder}\n"
        f"  rule: {setting} must be a free port of this host\n"
        f"  edit: {setting} in the inventory's group_vars/all/vars.yml, or stop that process\n"
        f"  run: the same command again, or nox -s deploy -- -e {setting}=PORT"
    )


if __name__ == "__main__":
    main()
