"""Every command of Slipway, one session each, in the order of the flow.

    nox -s deploy                     from a bare machine to streamed tokens: all stages, then the checks
    nox -s provision|lock|channel|image|push|verify|destroy   one stage of it
    nox                               lint and unit tests: changes nothing outside the working tree
    nox -s test                       every test there is; deploys to this machine and removes everything again

Words after `--` go to the session: `nox -s deploy -- --inventory NAME -e slipway_service_port=8100`.
Sessions that change hosts, locks or registries run only when named. All of them share one virtual environment,
`.slipway/venv`, made from the hashed lists in requirements/.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import nox
import uv

if TYPE_CHECKING:
    from collections.abc import Iterator

nox.needs_version = ">=2026.10.20"
nox.options.default_venv_backend = "none"

ROOT = Path(__file__).resolve().parent
TOOLS = ROOT / ".slipway" / "venv"
PYTHON_SOURCES = ("noxfile.py", "src", "tests", "plugins", "models", "roles", "images", "bench", "molecule")
BENCHMARKS = {
    "environment": ("installing the locked environment, against pip and uv", "slipway.bench"),
    "serving": ("the token service, against one request at a time and padded batches", "bench.serving"),
}
"""Name -> what it measures, module."""

SERVICE_SOURCES = ("src/token_service", "tests/token_service", "models", "bench")


def _lists() -> tuple[Path, ...]:
    """Return the requirement lists that the shared environment is made from."""
    return ROOT / "requirements" / "operator.txt", ROOT / "requirements" / "test.txt"


def _prepare_tools(session: nox.Session, lists: tuple[Path, ...]) -> None:
    """Make or update `.slipway/venv` from hashed requirement lists; nothing to do when they have not changed."""
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in lists)).hexdigest()
    stamp = TOOLS / f"requirements-{len(lists)}.sha256"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    session.log("preparing .slipway/venv")
    program = uv.find_uv_bin()
    if not (TOOLS / "bin" / "python").exists():
        session.run(program, "venv", "--quiet", "--python", sys.executable, str(TOOLS), external=True)
    requirements = [word for path in lists for word in ("-r", str(path))]
    session.run(
        program,
        *("pip", "install", "--quiet", "--require-hashes", "--python", str(TOOLS / "bin" / "python"), *requirements),
        external=True,
    )
    stamp.write_text(wanted, encoding="utf-8")


def _run(session: nox.Session, *words: str, **variables: str) -> None:
    """Run a program of the shared environment with Slipway's code importable."""
    env = {
        "PATH": f"{TOOLS / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin{os.pathsep}/sbin",
        "PYTHONPATH": str(ROOT / "src"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        # Without bytecode every start of Ansible compiles it anew: half of a run that changes nothing.
        "PYTHONDONTWRITEBYTECODE": "",
        **variables,
    }
    session.run(str(TOOLS / "bin" / words[0]), *words[1:], external=True, env=env)


def _slipway(session: nox.Session, *words: str) -> None:
    """Run `python -m slipway` with the operator's requirements."""
    _prepare_tools(session, _lists()[:1])
    _run(session, "python", "-m", "slipway", *words, *session.posargs)


@contextlib.contextmanager
def _keep_interrupts() -> Iterator[None]:
    """Leave Ctrl-C to the program that runs: nox would end it."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@nox.session(default=False)
def deploy(session: nox.Session) -> None:
    """Take the inventory's hosts (default: this machine) from bare to streaming tokens, and verify."""
    _slipway(session, "flow", "deploy")


@nox.session(default=False)
def provision(session: nox.Session) -> None:
    """Stage 1: install and start the container engine where none answers; initialise the Swarm."""
    _slipway(session, "flow", "provision")


@nox.session(default=False)
def lock(session: nox.Session) -> None:
    """Stage 2: environment.yml + channel.yml -> locks/; `-- --check` only compares."""
    _slipway(session, "lock")


@nox.session(default=False)
def channel(session: nox.Session) -> None:
    """Stage 3: locks/ -> private conda channel, fetched, converted, verified, indexed and served."""
    _slipway(session, "flow", "channel")


@nox.session(default=False)
def image(session: nox.Session) -> None:
    """Stage 4: locks/ + images/ + src/ -> local images."""
    _slipway(session, "flow", "image")


@nox.session(default=False)
def push(session: nox.Session) -> None:
    """Stage 5: local images -> registry and images/digests.yml."""
    _slipway(session, "flow", "push")


@nox.session(default=False)
def verify(session: nox.Session) -> None:
    """Stage 7: check hosts, containers and the live service."""
    _slipway(session, "flow", "verify")


@nox.session(default=False)
def destroy(session: nox.Session) -> None:
    """Remove exactly what deploy created; `-- --no-keep-cache` removes downloads too."""
    _slipway(session, "flow", "destroy")


@nox.session(default=False)
def keys(session: nox.Session) -> None:
    """Who may call the service: `-- add NAME`, `-- revoke NAME`, `-- list`; nothing restarts."""
    _slipway(session, "keys")


@nox.session(default=False)
def chat(session: nox.Session) -> None:
    """Chat with the deployed service in the terminal; Ctrl-C stops an answer, /quit ends."""
    with _keep_interrupts():
        _slipway(session, "chat")


@nox.session(default=False)
def dev(session: nox.Session) -> None:
    """Create or update `.slipway/envs/token-service` from the channel and prune what is no longer declared."""
    _slipway(session, "dev")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, types, playbooks, roles, Dockerfiles and locks without changing anything."""
    _prepare_tools(session, _lists())
    sources = [name for name in PYTHON_SOURCES if (ROOT / name).exists()]
    _run(session, "ruff", "check", *sources)
    _run(session, "ruff", "format", "--check", *sources)
    _run(session, "mypy")
    _run(session, "yamllint", "--strict", ".")
    _run(session, "ansible-lint", "--offline", "--strict")
    _run(session, "hadolint", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("images/*/Dockerfile")))
    _run(session, "python", "-m", "slipway", "roles", "check")
    _run(session, "python", "-m", "slipway", "lock", "--check")


@nox.session
def unit(session: nox.Session) -> None:
    """Test the operator's code; needs the Python index and Debian's packages, no container engine."""
    _prepare_tools(session, _lists())
    _run(session, "pytest", "-n", "2", "-m", "not engine and not service", *session.posargs)


@nox.session(default=False)
def service(session: nox.Session) -> None:
    """Test src/token_service inside the environment that the images carry."""
    _prepare_tools(session, _lists())
    _run(session, "python", "-m", "slipway", "dev")
    overlay = ROOT / ".slipway" / "envs" / "token-service-tests"
    interpreter = ROOT / ".slipway" / "envs" / "token-service" / "bin" / "python"
    program = uv.find_uv_bin()
    quiet = (program, "pip", "install", "--quiet", "--require-hashes")
    session.run(
        *(program, "venv", "--quiet", "--clear", "--system-site-packages", "--python", str(interpreter), str(overlay)),
        external=True,
    )
    session.run(
        *(*quiet, "--python", str(overlay / "bin" / "python"), "-r", str(ROOT / "requirements" / "service-test.txt")),
        external=True,
    )
    _run(session, "mypy", "--python-executable", str(overlay / "bin" / "python"), *SERVICE_SOURCES)
    session.run(
        *(str(overlay / "bin" / "python"), "-m", "pytest", "tests/token_service", *session.posargs),
        external=True,
        # The channel's packages hold no bytecode; without a place for it every server that a test starts compiles anew.
        env={
            "PYTHONPATH": str(ROOT / "src"),
            "PYTHONPYCACHEPREFIX": str(ROOT / ".slipway" / "cache" / "pycache"),
            "PYTHONDONTWRITEBYTECODE": "",
        },
    )
    _run(session, "pytest", "-m", "service")


@nox.session(default=False)
def e2e(session: nox.Session) -> None:
    """Deploy to this machine as a user does: twice, with a code change, with faults, then destroy."""
    _prepare_tools(session, _lists())
    _run(session, "pytest", "--durations=0", "--durations-min=1", "tests/e2e", *session.posargs)


@nox.session(default=False)
def molecule(session: nox.Session) -> None:
    """Prove the roles on throw-away hosts; `-- NAME` runs one scenario, `-- --list` explains them."""
    _prepare_tools(session, _lists())
    _run(session, "python", "-m", "slipway", "molecule", *session.posargs)


@nox.session(default=False)
def test(session: nox.Session) -> None:
    """Run every test: lint, unit, e2e, service, molecule; removes what it deployed."""
    for name in ("lint", "unit", "e2e", "service", "molecule"):
        session.notify(name)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure against peers, in turns, and write docs/benchmarks; `-- NAME` runs one, alone it lists them."""
    name, *words = session.posargs or ("",)
    if name not in BENCHMARKS:
        session.log(
            "one of: " + "; ".join(f"nox -s bench -- {known}: {what}" for known, (what, _) in BENCHMARKS.items())
        )
        if name:
            session.error(f"there is no benchmark {name}")
        return
    _prepare_tools(session, _lists())
    _run(session, "python", "-m", "slipway", "dev")
    _run(session, "python", "-m", BENCHMARKS[name][1], *words, PYTHONPATH=f"{ROOT / 'src'}{os.pathsep}{ROOT}")


@nox.session(default=False)
def requirements(session: nox.Session) -> None:
    """Turn requirements/*.in into hashed lists; `-- --upgrade` takes the newest versions."""
    program = uv.find_uv_bin()
    for name in ("nox", "operator", "test", "service-test"):
        session.chdir(ROOT / "requirements")
        session.run(
            *(program, "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"),
            *("--no-emit-index-url", "--custom-compile-command", "nox -s requirements", *session.posargs),
            *(f"{name}.in", "-o", f"{name}.txt"),
            external=True,
        )


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Write the variable tables of the roles' READMEs from their argument_specs."""
    _prepare_tools(session, _lists())
    _run(session, "python", "-m", "slipway", "roles", "document")
