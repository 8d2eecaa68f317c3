"""`slipway chat` against the real service, started from the environment that `nox -s dev` makes."""

from __future__ import annotations

import hashlib
import os
import pty
import select
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import openai
import pytest

from slipway import chat, paths
from slipway.chat import Chat, Target
from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "sk-slipway-of-a-test"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with one key and one place: a second request at the same time is refused."""
    folder, port = tmp_path_factory.mktemp("service"), _free_port()
    (folder / "keys").write_text(f"tester sha256:{hashlib.sha256(KEY.encode()).hexdigest()}\n")
    settings = {
        "MODEL_DIR": str(paths.ROOT / "models/demo"),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "WORKERS": "1",
        "THREADS": "1",
        "MAX_RUNNING": "1",
        "MAX_WAITING": "0",
        "API_KEYS_FILE": str(folder / "keys"),
    }
    environment = {f"TOKEN_SERVICE_{name}": value for name, value in settings.items()}
    environment |= {"PYTHONPATH": str(paths.ROOT / "src"), "TMPDIR": str(folder)}
    environment["PYTHONPYCACHEPREFIX"] = str(paths.CACHE / "pycache")
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(paths.ENVS / "token-service/bin/python"), "-m", "token_service"],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 90
    while not _ready(address):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    yield address
    process.terminate()
    process.wait(30)


def _ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _environment(address: str, key: str = KEY) -> dict[str, str]:
    variables = {"SLIPWAY_BASE_URL": address, "SLIPWAY_API_KEY": key, "SLIPWAY_MODEL": "demo"}
    return os.environ | variables | {"PYTHONPATH": str(paths.ROOT / "src")}


def _pipe(address: str, lines: str, key: str = KEY) -> subprocess.CompletedProcess[str]:
    """Run the program with `lines` on a pipe."""
    return subprocess.run(
        [sys.executable, "-m", "slipway", "chat"],
        input=lines,
        env=_environment(address, key),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.service
def test_lines_from_a_pipe_are_answered(url: str) -> None:
    """No prompt and no colour, answers alone; exit status 0."""
    done = _pipe(url, "Tell me about import.\n/model\n")
    assert (done.returncode, done.stderr) == (0, "")
    answer, last = done.stdout.rstrip().rsplit("\n", 1)
    assert answer
    assert last == "* demo"
    assert "\x1b" not in done.stdout


@pytest.mark.service
@pytest.mark.parametrize(("key", "message"), [("wrong", "does not take this key"), ("", "does not take this key")])
def test_wrong_key_is_explained(url: str, key: str, message: str) -> None:
    """The message says where the key comes from; the exit status tells a script."""
    done = _pipe(url, "Hello.\n", key or "none")
    assert done.returncode == 1
    assert message in done.stdout
    assert "SLIPWAY_API_KEY" in done.stdout


@pytest.mark.service
def test_unknown_model_is_named_with_the_known_ones(url: str) -> None:
    """The conversation goes on with the model it had."""
    done = _pipe(url, "/model other\n/model\n")
    assert "There is no model other; there is demo." in done.stdout
    assert done.stdout.endswith("* demo\n")


@pytest.mark.service
def test_busy_service_is_explained(url: str) -> None:
    """429 says when to come back, and the conversation keeps what it had."""
    shown: list[str] = []
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        talk = Chat(client, Target(url, KEY, "demo"), shown.append)
        other = client.completions.create(model="demo", prompt="The", max_tokens=900, stream=True)
        next(other)
        talk.take("Hello.")
        other.close()
    assert talk.failed
    assert talk.history == []
    assert "The service is busy" in "".join(shown)


@pytest.mark.service
def test_conversation_is_remembered_and_forgotten(url: str) -> None:
    """An answer is part of the next question, until /reset."""
    shown: list[str] = []
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        talk = Chat(client, Target(url, KEY, ""), shown.append)
        assert talk.take("Hello.")
        assert [turn["role"] for turn in talk.history] == ["user", "assistant"]
        assert talk.history[1]["content"] + "\n" == "".join(shown)
        assert talk.take("/reset")
        assert talk.history == []
        assert not talk.take("/quit")


@pytest.mark.service
def test_interrupt_stops_the_answer_and_not_the_program(url: str) -> None:
    """On a terminal: Ctrl-C while the answer streams, then another line, then the end of input."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "slipway", "chat"],
        env=_environment(url) | {"TERM": "dumb"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=_take_terminal,  # noqa: PLW1509 - Ctrl-C goes to the program whose terminal it is
    )
    os.close(terminal)
    _read_until(controller, "> ")
    os.write(controller, b"Tell me about the import statement.\n")
    _read_until(controller, "statement.\r\n")
    assert _read_until(controller, " ")  # the first words
    os.write(controller, b"\x03")
    _read_until(controller, "[stopped]")
    _read_until(controller, "> ")
    os.write(controller, b"/model\n")
    _read_until(controller, "* demo")
    _read_until(controller, "> ")
    os.write(controller, b"\x04")
    assert process.wait(20) == 0
    os.close(controller)


def _take_terminal() -> None:
    """Make standard input the controlling terminal of the new session."""
    import fcntl  # noqa: PLC0415 - runs between fork and exec
    import termios  # noqa: PLC0415

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _read_until(terminal: int, text: str) -> str:
    """Return what the terminal shows up to `text`, byte by byte."""
    seen = ""
    deadline = time.monotonic() + 30
    while not seen.endswith(text):
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"{text!r} did not come; seen: {seen!r}"
        seen += os.read(terminal, 1).decode(errors="replace")
    return seen


def test_silent_service_is_explained() -> None:
    """The address is named and what to run."""
    done = _pipe(f"http://127.0.0.1:{_free_port()}", "Hello.\n")
    assert done.returncode == 1
    assert "does not answer" in done.stdout
    assert "nox -s deploy" in done.stdout


def test_missing_deployment_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a service and without an address there is nothing to talk to."""
    monkeypatch.delenv("SLIPWAY_BASE_URL", raising=False)
    monkeypatch.setattr(chat, "deployed_service", lambda: None)
    with pytest.raises(SlipwayError, match="no service") as caught:
        chat.find_target()
    assert caught.value.run == "nox -s deploy"


def test_variables_come_before_the_deployment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SLIPWAY_* name another service; the key's file is the last resort, and no key is shown in messages."""
    monkeypatch.setenv("SLIPWAY_BASE_URL", "http://there:8000/")
    monkeypatch.setenv("SLIPWAY_MODEL", "mine")
    monkeypatch.delenv("SLIPWAY_API_KEY", raising=False)
    (tmp_path / "api-key").write_text("of-the-file\n")
    monkeypatch.setattr(chat, "API_KEY_FILE", tmp_path / "api-key")
    found = chat.find_target()
    assert found == Target("http://there:8000", "of-the-file", "mine")
    assert "of-the-file" not in repr(found)
    monkeypatch.setenv("SLIPWAY_API_KEY", "of-the-variable")
    assert chat.find_target().key == "of-the-variable"
