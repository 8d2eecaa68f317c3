"""Containers for the cold-start measurement, through whatever client of an engine is there."""

from __future__ import annotations

import functools
import json
import subprocess
from typing import TYPE_CHECKING, Self

from bench.serving.errors import BenchError
from bench.serving.process import DEMO, free_port
from slipway.errors import SlipwayError
from slipway.image.engine import find_engine
from slipway.image.state import read_record
from slipway.paths import ROOT

if TYPE_CHECKING:
    from types import TracebackType

_REFERENCE = ROOT / "bench" / "serving" / "reference"
_TAG = "slipway-bench-reference:latest"


@functools.cache
def _client() -> str:
    try:
        return find_engine().client
    except SlipwayError as error:
        raise BenchError(str(error)) from None


def docker(*words: str, seconds: float = 300) -> str:
    """Run the engine's client and return what it printed.

    Raises:
        BenchError: there is no client, or it failed.
    """
    try:
        done = subprocess.run([_client(), *words], capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"docker {words[0]}: {error}") from None
    if done.returncode:
        raise BenchError(f"docker {words[0]}: {(done.stderr or done.stdout).strip()[-400:]}")
    return done.stdout.strip()


def service_image() -> str:
    """Return the image that was built last.

    Raises:
        BenchError: no engine runs, or it has no such image.
    """
    docker("info", "--format", "{{.ServerVersion}}", seconds=20)
    record = read_record("token-service")
    if record is None:
        raise BenchError("no image of the token service has been built here; run: nox -s image")
    return docker("image", "inspect", "--format", "{{.Id}}", record.identity)


def reference_image(base: str) -> str:
    """Build the reference image on `base` and return its name."""
    alias = "slipway-bench-base:latest"
    docker("tag", base, alias)
    docker("build", "--quiet", "--build-arg", f"BASE={alias}", "--tag", _TAG, str(_REFERENCE), seconds=600)
    return _TAG


class Container:
    """One container that publishes port 8000 on the loopback address, removed at the end; a context manager."""

    def __init__(self, image: str, *options: str) -> None:
        self._image = image
        self._options = options
        self._name = ""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        mount = f"type=bind,source={DEMO},target=/models/current,readonly"
        published = f"127.0.0.1:{self.port}:8000"
        self._name = docker(
            *("run", "--detach", "--publish", published, "--mount", mount, "--tmpfs", "/tmp:size=64m,mode=1777"),  # noqa: S108
            *self._options,
            self._image,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        docker("rm", "--force", "--volumes", self._name)

    def running(self) -> None:
        """Do nothing while the container runs.

        Raises:
            BenchError: it has ended; the text has the end of its log.
        """
        state = json.loads(docker("inspect", "--format", "{{json .State}}", self._name))
        if not state["Running"]:
            raise BenchError(f"the container ended with status {state['ExitCode']}: {self.log()}")

    def log(self) -> str:
        """Return the end of what the container printed."""
        return docker("logs", "--tail", "20", self._name)[-1500:]
