"""`python -m token_service`: read settings, verify and load the model, serve until SIGTERM."""

from __future__ import annotations

import logging.config
import os
import sys
from pathlib import Path

from token_service import logs, settings
from token_service.errors import StartError


def _share_metrics(folder: Path) -> None:
    """Let all workers count in files of `folder`, without those of an earlier run."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for stale in folder.glob("*.db"):
            stale.unlink(missing_ok=True)
    except OSError as error:
        raise StartError(
            f"cannot use the scratch folder {folder}", str(error), "writable", "set TOKEN_SERVICE_METRICS_DIR or TMPDIR"
        ) from None
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # read once, when the client library is imported


def _serve(config: settings.Settings) -> None:
    """Import what is heavy only now: a wrong setting is reported within a tenth of a second."""
    _share_metrics(config.metrics_dir)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its thread pool does not survive the fork
    # Waiting threads sleep instead of spinning: on shared cores spinning made a token 2 to 4 times slower (measured).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HOME", str(Path(os.environ.get("TMPDIR") or "/tmp") / "huggingface"))  # noqa: S108
    from token_service import app, model, server  # noqa: PLC0415 - see the docstring

    logging.config.dictConfig(logs.configuration(config.log_level))
    log = logging.getLogger("token_service")
    if not config.api_keys:
        log.warning("no API key is set: everybody who reaches the port may generate")
    loaded = model.load(config)
    log.info("model loaded", extra={"model": loaded.name, "parameters": loaded.network.num_parameters()})
    server.Application(config, app.create(config, loaded)).run()


def main() -> int:
    """Run the service; return the exit status of a start that failed."""
    try:
        _serve(settings.read())
    except StartError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
