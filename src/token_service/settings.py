"""Settings, read once from `TOKEN_SERVICE_*` environment variables; a wrong one is named in the error."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from token_service.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "TOKEN_SERVICE_"
DEFAULT_API_KEY_FILE = Path("/run/secrets/api-key")


class Secret:
    """A value that never shows up in logs, tracebacks or `repr`."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "Secret('**********')"

    def reveal(self) -> str:
        """Return the value itself."""
        return self._value


@dataclass(frozen=True)
class Settings:
    """What the service can be told; docs/using/service.md has the table.

    Attributes:
        model_dir: Folder in Hugging Face format with `manifest.json`.
        model_name: Name in `/v1/models` and in requests.
        device: `cpu`, `cuda` or `auto` (cuda where the NVIDIA device node exists).
        host: Address to listen on.
        port: TCP port.
        workers: HTTP worker processes; each runs its own engine on a shared copy of the weights (CPU).
        threads: Torch threads per worker.
        max_running: Sequences one worker advances at the same time.
        max_waiting: Requests one worker holds back beyond that; further ones get 429.
        max_body_bytes: Size limit of a request body.
        drain_seconds: How long new requests are still accepted after SIGTERM.
        graceful_timeout: Seconds after SIGTERM when streams still running are cut.
        ready_seconds: A forward pass older than this is repeated before `/readyz` says yes.
        log_level: debug, info, warning or error.
        metrics_dir: Scratch folder of the Prometheus client, wiped at start.
        api_keys: Accepted bearer tokens; empty means the API is open.
    """

    model_dir: Path
    model_name: str
    device: str
    host: str
    port: int
    workers: int
    threads: int
    max_running: int
    max_waiting: int
    max_body_bytes: int
    drain_seconds: float
    graceful_timeout: int
    ready_seconds: float
    log_level: str
    metrics_dir: Path
    api_keys: tuple[Secret, ...] = field(default=())


class _Reader:
    """Typed access to the environment that remembers which names were asked for."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.known: set[str] = set()

    def text(self, name: str, default: str) -> str:
        self.known.add(PREFIX + name)
        return self._environ.get(PREFIX + name) or default  # an empty variable is an unset one, as in compose files

    def number(self, name: str, default: float, low: float, high: float) -> float:
        text = self.text(name, str(default))
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise StartError(f"setting {PREFIX}{name}", seen=repr(text), rule=f"a number from {low:g} to {high:g}")
        return value

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        value = self.number(name, default, low, high)
        if value != int(value):
            raise StartError(f"setting {PREFIX}{name}", seen=repr(value), rule="a whole number")
        return int(value)

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self.text(name, default).lower()
        if value not in allowed:
            raise StartError(f"setting {PREFIX}{name}", seen=repr(value), rule=f"one of {', '.join(allowed)}")
        return value


def _read_keys(path: Path, *, required: bool) -> tuple[Secret, ...]:
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        if not required:
            return ()
        raise StartError(f"the API key file {path} does not exist", mend=f"set {PREFIX}API_KEY_FILE") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"cannot read the API key file {path}", seen=str(error)) from None
    keys = tuple(Secret(line.strip()) for line in lines if line.strip())
    if not keys:
        raise StartError(f"the API key file {path} is empty", rule="one key per line, at least one")
    return keys


def _device(choice: str) -> str:
    if choice == "auto":  # asking torch would initialise CUDA before the fork, which breaks every worker
        return "cuda" if Path("/dev/nvidiactl").exists() else "cpu"
    return choice


def read(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings in `environ` (default: this process's environment).

    Raises:
        StartError: a value is missing, malformed or out of range, or a `TOKEN_SERVICE_` name is unknown.
    """
    source = os.environ if environ is None else environ
    reader = _Reader(source)
    model_dir = Path(reader.text("MODEL_DIR", "/models/current"))
    if not model_dir.is_dir():
        raise StartError(
            f"the model folder {model_dir} does not exist",
            rule="a folder in Hugging Face format with manifest.json",
            mend=f"mount it there or set {PREFIX}MODEL_DIR",
        )
    workers = reader.integer("WORKERS", 4, 1, 64)
    cores = len(os.sched_getaffinity(0))
    port = reader.integer("PORT", 8000, 1, 65535)
    drain = reader.number("DRAIN_SECONDS", 3, 0, 600)
    key_file = reader.text("API_KEY_FILE", "")
    scratch = Path(source.get("TMPDIR") or "/tmp") / f"token-service-metrics-{port}"  # noqa: S108 - wiped at start
    settings = Settings(
        model_dir=model_dir,
        model_name=reader.text("MODEL_NAME", model_dir.resolve().name),
        device=_device(reader.choice("DEVICE", "auto", ("auto", "cpu", "cuda"))),
        host=reader.text("HOST", "0.0.0.0"),  # noqa: S104 - a container's port is published by its engine
        port=port,
        workers=workers,
        threads=reader.integer("THREADS", max(1, cores // workers), 1, 1024),
        max_running=reader.integer("MAX_RUNNING", 8, 1, 4096),
        max_waiting=reader.integer("MAX_WAITING", 32, 0, 65536),
        max_body_bytes=reader.integer("MAX_BODY_BYTES", 1 << 20, 1024, 1 << 30),
        drain_seconds=drain,
        graceful_timeout=reader.integer("GRACEFUL_TIMEOUT", 60, 1, 86400),
        ready_seconds=reader.number("READY_SECONDS", 5, 0, 3600),
        log_level=reader.choice("LOG_LEVEL", "info", ("debug", "info", "warning", "error")),
        metrics_dir=Path(reader.text("METRICS_DIR", str(scratch))),
        api_keys=_read_keys(Path(key_file or DEFAULT_API_KEY_FILE), required=bool(key_file)),
    )
    if settings.graceful_timeout <= drain:
        raise StartError(
            f"setting {PREFIX}GRACEFUL_TIMEOUT",
            seen=str(settings.graceful_timeout),
            rule=f"longer than {PREFIX}DRAIN_SECONDS ({drain:g}), or streams are cut before draining ends",
        )
    unknown = sorted(name for name in source if name.startswith(PREFIX) and name not in reader.known)
    if unknown:
        raise StartError(f"unknown setting {unknown[0]}", rule=f"one of {', '.join(sorted(reader.known))}")
    return settings
