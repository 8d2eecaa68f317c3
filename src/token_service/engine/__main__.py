"""`python -m token_service.engine MODEL PULSE RESTARTS`: the supervisor starts this, nobody else."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

from token_service import environment, logs, manifest, settings
from token_service.errors import StartError


class _Verification(threading.Thread):
    """Checks model folder and environment while the main thread imports torch: all of it takes a second or more."""

    def __init__(self, folder: Path, config: settings.Settings) -> None:
        super().__init__(name="verification", daemon=True)
        self._folder = folder
        self._config = config
        self._error: StartError | None = None
        self._problems: list[str] = []
        self.start()

    def run(self) -> None:
        try:
            manifest.verify(self._folder)
        except StartError as error:
            self._error = error
        if self._config.lock_file is not None and self._config.environment_check != "off":
            try:
                self._problems = environment.check(self._config.lock_file, Path(sys.prefix))
            except environment.LockError as error:
                self._problems = [str(error)]

    def result(self) -> list[str]:
        """Return how the environment differs from its lock.

        Raises:
            StartError: the model differs from its manifest.
        """
        self.join()
        if self._error is not None:
            raise self._error
        return self._problems


def _serve(config: settings.Settings, pulse: int, began: float, *, restarted: bool) -> int:
    name = sys.argv[1]
    source = next(model for model in config.models if model.name == name)
    verification = _Verification(source.folder, config)
    from token_service import metrics  # noqa: PLC0415 - torch comes with these imports, which takes seconds
    from token_service.engine import build, process  # noqa: PLC0415

    try:
        batcher, hello = build.build(config, source, began)
    except StartError:
        verification.result()  # a damaged file explains what went wrong after it
        raise
    problems = verification.result()
    if restarted:
        metrics.engine_restarts.labels(name).inc()
    return asyncio.run(process.Process(config, batcher, hello, pulse, problems).run())


def main() -> int:
    """Load the model and serve it; return the exit status."""
    began = time.monotonic()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever gets it, the supervisor decides
    pulse, restarts = int(sys.argv[2]), int(sys.argv[3])
    os.set_blocking(pulse, False)
    config = settings.read()
    logging.config.dictConfig(logs.configuration(config.log_level))
    try:
        return _serve(config, pulse, began, restarted=restarts > 0)
    except StartError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def leave(status: int) -> NoReturn:
    """End the process now: the batcher's thread may be in a forward pass, for which interpreter shutdown would wait."""
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    leave(main())
