"""What is made ready, and refused, before any process of the service starts."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from typing import TYPE_CHECKING

from token_service.errors import StartError

if TYPE_CHECKING:
    from token_service.settings import Settings

_LONGEST_SOCKET = 107
"""Bytes of a Unix socket's path on Linux."""


def prepare(config: Settings) -> None:
    """Make the scratch folder without what an earlier run left, and check the port before anything slow happens."""
    try:
        config.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = config.run_dir.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise PermissionError("it belongs to somebody else, or others may enter it")
        shutil.rmtree(config.metrics_dir, ignore_errors=True)
        config.metrics_dir.mkdir(mode=0o700)
        for stale in config.run_dir.glob("engine-*.sock"):
            stale.unlink()
    except OSError as error:
        raise StartError(
            f"cannot use the scratch folder {config.run_dir}",
            str(error),
            "a folder of our own, mode 0700",
            "set TOKEN_SERVICE_RUN_DIR or TMPDIR",
        ) from None
    longest = max(len(os.fsencode(config.socket(model.name))) for model in config.models)
    if longest > _LONGEST_SOCKET:
        raise StartError(
            f"the path of the scratch folder {config.run_dir} is too long for a socket",
            seen=f"{longest} bytes",
            rule=f"at most {_LONGEST_SOCKET}",
            mend="set TOKEN_SERVICE_RUN_DIR to a shorter path",
        )
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            raise StartError(
                f"cannot listen on {config.host} port {config.port}",
                seen=str(error),
                rule="an address of this machine and a free port",
                mend="set TOKEN_SERVICE_PORT or TOKEN_SERVICE_HOST, or stop what uses the port (ss -ltnp)",
            ) from None


def share_environment(config: Settings) -> None:
    """Set what the libraries of the child processes read from the environment."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(config.metrics_dir)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its thread pool does not survive a fork
    # Waiting threads sleep instead of spinning: on shared cores spinning made a token 2 to 4 times slower (measured).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HOME", str(config.run_dir / "huggingface"))
