"""The HTTP side: gunicorn and its workers. Fork after importing, drain before leaving."""

from __future__ import annotations

import ctypes
import logging
import logging.config
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from uvicorn import Config, Server
from uvicorn_worker import UvicornWorker  # type: ignore[import-untyped]

from token_service import app, logs, metrics, settings
from token_service.errors import StartError

if TYPE_CHECKING:
    from types import FrameType

    from fastapi import FastAPI

    from token_service.service import Service
    from token_service.settings import Settings

_PR_SET_PDEATHSIG = 1
_log = logging.getLogger("token_service.server")


class DrainingServer(Server):
    """After SIGTERM: readiness says no at once, new requests are accepted for a while, streams end on their own."""

    def __init__(self, config: Config, service: Service, parent: int) -> None:
        super().__init__(config)
        self._service = service
        self._parent = parent
        self._leave_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain on the first SIGTERM; any other signal ends the server as uvicorn does."""
        if sig != signal.SIGTERM:
            super().handle_exit(sig, frame)
        elif self._leave_at is None:
            self._service.draining = True
            self._leave_at = time.monotonic() + self._service.settings.drain_seconds

    async def on_tick(self, counter: int) -> bool:
        """Run ten times a second; return True when it is time to close the sockets."""
        if self._leave_at is not None and time.monotonic() >= self._leave_at:
            self.should_exit = True
        if os.getppid() != self._parent:  # the master was killed: nobody would restart or stop this worker
            self.should_exit = True
        return await super().on_tick(counter)


class Worker(UvicornWorker):  # type: ignore[misc]
    """A uvicorn worker that drains."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {**UvicornWorker.CONFIG_KWARGS, "access_log": False}  # the gate logs

    async def _serve(self) -> None:
        service: Service = self.wsgi.state.service
        limits = service.settings
        self.config.app = self.wsgi
        # Without it uvicorn waits for ever and gunicorn ends the wait with SIGKILL, without lifespan shutdown.
        self.config.timeout_graceful_shutdown = max(1, int(limits.graceful_timeout - limits.drain_seconds - 1))
        server = DrainingServer(self.config, service, self.ppid)
        self._install_sigquit_handler()
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)


class Application(BaseApplication):  # type: ignore[misc]
    """Gunicorn, configured by `Settings` alone."""

    def __init__(self, config: Settings, application: FastAPI) -> None:
        self._settings = config
        self._app = application
        super().__init__()

    def load_config(self) -> None:
        """Translate settings to gunicorn's."""
        shared_memory = Path("/dev/shm")  # noqa: S108 - heartbeat files; a disk that stalls must not kill workers
        values = {
            "bind": f"{self._settings.host}:{self._settings.port}",
            "workers": self._settings.workers,
            "worker_class": Worker,
            "preload_app": True,
            "control_socket_disable": True,  # has deadlocked with preload
            "worker_tmp_dir": str(shared_memory) if os.access(shared_memory, os.W_OK) else None,
            "timeout": 60,
            "graceful_timeout": self._settings.graceful_timeout,
            "keepalive": 75,  # longer than load balancers keep an idle connection, or they would meet closed ones
            "max_requests": 0,  # recycling cuts streams
            "proc_name": "token-service",
            "loglevel": self._settings.log_level,
            "logconfig_dict": logs.configuration(self._settings.log_level),
            "child_exit": lambda _arbiter, worker: metrics.forget(worker.pid),
        }
        for name, value in values.items():
            if value is not None:
                self.cfg.set(name, value)

    def load(self) -> FastAPI:
        """Return the application that was built before the fork."""
        return self._app


def main() -> int:
    """Serve HTTP until SIGTERM; the supervisor starts this."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # a supervisor that was killed cannot pass it on
    config = settings.read()
    logging.config.dictConfig(logs.configuration(config.log_level))
    try:
        Application(config, app.create(config)).run()
    except StartError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
