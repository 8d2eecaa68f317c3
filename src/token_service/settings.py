"""Settings, read once from `TOKEN_SERVICE_*` environment variables; a wrong one is named in the error."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from token_service.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "TOKEN_SERVICE_"


@dataclass(frozen=True)
class ModelSource:
    """A model to serve.

    Attributes:
        name: In `/v1/models` and in requests.
        folder: In Hugging Face format with `manifest.json`.
    """

    name: str
    folder: Path


@dataclass(frozen=True)
class Settings:
    """What the service can be told; docs/using/service.md has the table.

    Attributes:
        models: What to serve; each gets an engine process of its own.
        device: `cpu`, `cuda` or `auto` (cuda where the NVIDIA device node exists), already resolved.
        dtype: `auto` (float32 on a CPU, as stored on a GPU), `float32`, `bfloat16` or `float16`.
        attention: `sdpa` (torch picks a kernel) or `eager` (plain matrix products).
        host: Address to listen on.
        port: TCP port.
        workers: HTTP worker processes.
        threads: Torch threads of one engine process.
        max_running: Sequences one engine advances at the same time.
        max_waiting: Sequences it holds back beyond that; further ones get 429.
        max_context: Upper bound of prompt and completion together; 0 takes the model's.
        max_batch_tokens: Tokens of one forward pass; longer prompts are cut into several.
        kv_cache_bytes: Upper bound of the key-value cache; 0 takes a quarter of the memory.
        prefix_cache: Reuse the cached beginning that two prompts share.
        max_body_bytes: Size limit of a request body.
        request_timeout: Seconds after which a request is given up.
        send_timeout: Seconds a client may leave a stream unread.
        step_timeout: Seconds a forward pass may take before the engine counts as hung.
        load_timeout: Seconds an engine may take until it is ready.
        engine_restarts: How often a failed engine is replaced inside the container; 0 leaves it to the orchestrator.
        drain_seconds: How long new requests are still accepted after SIGTERM.
        graceful_timeout: Seconds after SIGTERM when streams still running are cut.
        ready_seconds: A forward pass older than this is repeated before `/readyz` says yes.
        log_level: debug, info, warning or error.
        log_prompts: Log prompts and generated text.
        run_dir: Scratch folder of sockets and metrics, wiped at start.
        api_keys_file: Hashed keys, read again whenever it changes; None: the API is open.
        metrics_keys_file: Hashed keys for `/metrics`; None: no key needed.
        cors_origins: Origins whose pages may call the API; none by default.
        lock_file: Explicit list of the environment's packages; None: the environment is not checked.
        environment_check: `imports` (each locked package is imported once), `versions` (they are compared) or `off`.
        image: Reference of the image, for the metrics.
    """

    models: tuple[ModelSource, ...]
    device: str
    dtype: str
    attention: str
    host: str
    port: int
    workers: int
    threads: int
    max_running: int
    max_waiting: int
    max_context: int
    max_batch_tokens: int
    kv_cache_bytes: int
    prefix_cache: bool
    max_body_bytes: int
    request_timeout: float
    send_timeout: float
    step_timeout: float
    load_timeout: float
    engine_restarts: int
    drain_seconds: float
    graceful_timeout: int
    ready_seconds: float
    log_level: str
    log_prompts: bool
    run_dir: Path
    api_keys_file: Path | None
    metrics_keys_file: Path | None
    cors_origins: tuple[str, ...]
    lock_file: Path | None
    environment_check: str
    image: str

    @property
    def metrics_dir(self) -> Path:
        """Scratch files of the Prometheus client."""
        return self.run_dir / "metrics"

    def socket(self, model: str) -> Path:
        """Return the path of the socket on which the engine of `model` listens."""
        index = [source.name for source in self.models].index(model)
        return self.run_dir / f"engine-{index}.sock"


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

    def flag(self, name: str, *, default: bool) -> bool:
        return self.choice(name, str(default).lower(), ("true", "false")) == "true"

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self.text(name, default).lower()
        if value not in allowed:
            raise StartError(f"setting {PREFIX}{name}", seen=repr(value), rule=f"one of {', '.join(allowed)}")
        return value


def _models(reader: _Reader) -> tuple[ModelSource, ...]:
    listed, single = reader.text("MODELS", ""), reader.text("MODEL_DIR", "")
    name = reader.text("MODEL_NAME", "")
    if listed and (single or name):
        raise StartError(f"both {PREFIX}MODELS and {PREFIX}MODEL_DIR or {PREFIX}MODEL_NAME are set", rule="one of them")
    if not listed:
        folder = Path(single or "/models/current")
        found = [ModelSource(name or folder.resolve().name, folder)]
    else:
        pairs = [entry.strip().partition("=") for entry in listed.split(",") if entry.strip()]
        if not pairs or not all(name and path for name, _, path in pairs):
            raise StartError(f"setting {PREFIX}MODELS", seen=repr(listed), rule="NAME=FOLDER, several with commas")
        found = [ModelSource(name.strip(), Path(path.strip())) for name, _, path in pairs]
    names = [model.name for model in found]
    if len(set(names)) < len(names):
        raise StartError(f"setting {PREFIX}MODELS", seen=repr(listed), rule="every name once")
    for model in found:
        if not model.folder.is_dir():
            raise StartError(
                f"the model folder {model.folder} does not exist",
                rule="a folder in Hugging Face format with manifest.json",
                mend=f"mount it there or set {PREFIX}MODEL_DIR",
            )
    return tuple(found)


def _file(reader: _Reader, name: str, default: str, what: str) -> Path | None:
    """Return a file that must exist when it is named, and is optional at its default place."""
    named = reader.text(name, "")
    path = Path(named or default)
    if path.is_file():
        return path
    if named:
        raise StartError(f"the {what} {path} does not exist", mend=f"set {PREFIX}{name}, or leave it empty")
    return None


def _device(choice: str) -> str:
    if choice == "auto":  # asking torch would mean to import it
        return "cuda" if Path("/dev/nvidiactl").exists() else "cpu"
    return choice


def read(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings in `environ` (default: this process's environment).

    Raises:
        StartError: a value is missing, malformed or out of range, or a `TOKEN_SERVICE_` name is unknown.
    """
    source = os.environ if environ is None else environ
    reader = _Reader(source)
    models = _models(reader)
    cores = len(os.sched_getaffinity(0))
    port = reader.integer("PORT", 8000, 1, 65535)
    device = _device(reader.choice("DEVICE", "auto", ("auto", "cpu", "cuda")))
    scratch = Path(source.get("TMPDIR") or "/tmp") / f"token-service-{port}"  # noqa: S108 - made with mode 0700
    origins = reader.text("CORS_ORIGINS", "")
    settings = Settings(
        models=models,
        device=device,
        dtype=reader.choice("DTYPE", "auto", ("auto", "float32", "bfloat16", "float16")),
        attention=reader.choice("ATTENTION", "sdpa", ("sdpa", "eager")),
        host=reader.text("HOST", "0.0.0.0"),  # noqa: S104 - a container's port is published by its engine
        port=port,
        workers=reader.integer("WORKERS", 4, 1, 64),
        threads=reader.integer("THREADS", max(1, cores // len(models)), 1, 1024),
        max_running=reader.integer("MAX_RUNNING", 32, 1, 1024),
        max_waiting=reader.integer("MAX_WAITING", 128, 0, 65536),
        max_context=reader.integer("MAX_CONTEXT", 0, 0, 1 << 24),
        max_batch_tokens=reader.integer("MAX_BATCH_TOKENS", 512 if device == "cpu" else 2048, 1, 1 << 20),
        kv_cache_bytes=reader.integer("KV_CACHE_BYTES", 0, 0, 1 << 50),
        prefix_cache=reader.flag("PREFIX_CACHE", default=True),
        max_body_bytes=reader.integer("MAX_BODY_BYTES", 1 << 20, 1024, 1 << 30),
        request_timeout=reader.number("REQUEST_TIMEOUT", 600, 0.1, 86400),
        send_timeout=reader.number("SEND_TIMEOUT", 30, 0.1, 3600),
        step_timeout=reader.number("STEP_TIMEOUT", 60, 0.5, 3600),
        load_timeout=reader.number("LOAD_TIMEOUT", 600, 1, 86400),
        engine_restarts=reader.integer("ENGINE_RESTARTS", 0, 0, 1000),
        drain_seconds=reader.number("DRAIN_SECONDS", 3, 0, 600),
        graceful_timeout=reader.integer("GRACEFUL_TIMEOUT", 60, 1, 86400),
        ready_seconds=reader.number("READY_SECONDS", 5, 0, 3600),
        log_level=reader.choice("LOG_LEVEL", "info", ("debug", "info", "warning", "error")),
        log_prompts=reader.flag("LOG_PROMPTS", default=False),
        run_dir=Path(reader.text("RUN_DIR", str(scratch))),
        api_keys_file=_file(reader, "API_KEYS_FILE", "/run/keys/api-keys", "API key file"),
        metrics_keys_file=_file(reader, "METRICS_KEYS_FILE", "/run/keys/metrics-keys", "metrics key file"),
        cors_origins=tuple(origin.strip() for origin in origins.split(",") if origin.strip()),
        lock_file=_file(reader, "LOCK_FILE", str(Path(sys.prefix) / "conda-meta" / "lock.txt"), "lock file"),
        environment_check=reader.choice("ENVIRONMENT_CHECK", "imports", ("imports", "versions", "off")),
        image=reader.text("IMAGE", ""),
    )
    if settings.graceful_timeout <= settings.drain_seconds:
        raise StartError(
            f"setting {PREFIX}GRACEFUL_TIMEOUT",
            seen=str(settings.graceful_timeout),
            rule=f"longer than {PREFIX}DRAIN_SECONDS ({settings.drain_seconds:g}), "
            "or streams are cut before draining ends",
        )
    unknown = sorted(name for name in source if name.startswith(PREFIX) and name not in reader.known)
    if unknown:
        raise StartError(f"unknown setting {unknown[0]}", rule=f"one of {', '.join(sorted(reader.known))}")
    return settings
