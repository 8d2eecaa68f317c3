"""`slipway chat`: a conversation with the deployed service in the terminal.

SLIPWAY_BASE_URL, SLIPWAY_API_KEY and SLIPWAY_MODEL name another service, key or model than the deployed one.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
import openai
from rich.console import Console

from slipway.errors import SlipwayError
from slipway.flow.service import API_KEY_FILE, deployed_service

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

_HELP = """\
/reset          forget the conversation
/model [NAME]   show the models, or go on with another one
/system [TEXT]  set what the model is told before the conversation; without TEXT nothing
/quit           end (also Ctrl-D); Ctrl-C stops an answer"""

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters: what a model says must not steer the terminal."""

_TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class Target:
    """Where to chat: base URL without `/v1`, API key (empty: none), model (empty: the first one served)."""

    url: str
    key: str = field(repr=False)
    model: str


def find_target() -> Target:
    """Return the deployed service, or what SLIPWAY_* variables name.

    Raises:
        SlipwayError: nothing is deployed and SLIPWAY_BASE_URL is not set.
    """
    service = deployed_service()
    url = os.environ.get("SLIPWAY_BASE_URL", service.url if service else "").rstrip("/")
    if not url:
        raise SlipwayError(
            "There is no service to chat with.",
            seen="nothing is deployed from this checkout, and SLIPWAY_BASE_URL is not set",
            rule="a deployed service, or the address of another one",
            run="nox -s deploy",
        )
    key = os.environ.get("SLIPWAY_API_KEY", "")
    if not key and API_KEY_FILE.is_file():
        key = API_KEY_FILE.read_text(encoding="utf-8").strip()
    return Target(url, key, os.environ.get("SLIPWAY_MODEL", service.model if service else ""))


def explain(error: openai.OpenAIError, target: Target) -> SlipwayError:
    """Say what went wrong and what to do, in the form of all of Slipway's messages."""
    if isinstance(error, openai.APIConnectionError):
        what, seen, run = f"{target.url} does not answer.", str(error.__cause__ or error), "nox -s deploy"
    elif isinstance(error, openai.AuthenticationError):
        what, seen = "The service does not take this key.", _message(error)
        run = f"nox -s keys -- list; the key is read from SLIPWAY_API_KEY, else from {API_KEY_FILE.name}"
    elif isinstance(error, openai.RateLimitError):
        wait = error.response.headers.get("retry-after", "a few")
        what, seen, run = "The service is busy.", _message(error), f"the same again in {wait} s"
    elif isinstance(error, openai.NotFoundError):
        what, seen, run = "The service does not have this model.", _message(error), "/model"
    elif isinstance(error, openai.BadRequestError):
        what, seen, run = "The service refuses the conversation.", _message(error), "/reset"
    else:
        what, seen, run = "The service failed.", _message(error), "the same again; nox -s verify"
    return SlipwayError(what, seen=_UNPRINTABLE.sub("", seen), run=run)


def _message(error: openai.OpenAIError) -> str:
    """Return the service's own words."""
    body = getattr(error, "body", None)
    text = body.get("message") if isinstance(body, dict) else None
    return str(text or error)


class Chat:
    """One conversation."""

    def __init__(self, client: openai.OpenAI, target: Target, write: Callable[[str], None]) -> None:
        self._client = client
        self._target = target
        self._write = write
        self._system = ""
        self.history: list[Any] = []
        self.model = target.model
        self.failed = False
        """Whether the last line led to an error."""

    def take(self, line: str) -> bool:
        """Deal with one line: a command, or something to say. Return False when the conversation is over."""
        self.failed = False
        command, _, rest = line.strip().partition(" ")
        if command in {"/quit", "/exit"}:
            return False
        try:
            if command.startswith("/"):
                self._write(self._obey(command, rest.strip()) + "\n")
            elif line.strip():
                self._say(line.strip())
        except openai.OpenAIError as error:
            self.failed = True
            self._write(f"{explain(error, self._target)}\n")
        return True

    def _obey(self, command: str, rest: str) -> str:
        if command == "/reset":
            self.history.clear()
            return "The conversation is forgotten."
        if command == "/system":
            self._system = rest
            return "Noted." if rest else "The model is told nothing beforehand."
        if command != "/model":
            return _HELP
        names = [entry.id for entry in self._client.models.list()]
        if rest in names:
            self.model = rest
        elif rest:
            self.failed = True
            return f"There is no model {rest}; there is {', '.join(names)}."
        self.model = self.model or names[0]
        return "\n".join(f"{'*' if name == self.model else ' '} {name}" for name in names)

    def _say(self, text: str) -> None:
        """Ask, and show the answer as it comes; what was shown is what the conversation remembers."""
        if not self.model:
            self.model = self._client.models.list().data[0].id
        asked = [*self.history, {"role": "user", "content": text}]
        beforehand = [{"role": "system", "content": self._system}] if self._system else []
        answer = ""
        try:
            with contextlib.closing(self._pieces([*beforehand, *asked])) as pieces:
                for piece in pieces:
                    answer += piece
                    self._write(_UNPRINTABLE.sub("", piece))
        except KeyboardInterrupt:
            self._write(" [stopped]\n")
        else:
            self._write("\n")
        finally:
            if answer:
                self.history = [*asked, {"role": "assistant", "content": answer}]

    def _pieces(self, messages: list[Any]) -> Generator[str]:
        """Yield the pieces of an answer; closing ends the request, and with it the work of the service."""
        with self._client.chat.completions.create(model=self.model, messages=messages, stream=True) as stream:
            for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content


def _lines(console: Console) -> Iterator[str]:
    """Yield what is typed, or what comes through a pipe; Ctrl-C at the prompt empties the line."""
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401, PLC0415 - importing it gives input() a history and editing
    while True:
        try:
            yield input("> ")
        except KeyboardInterrupt:
            console.print("\n[dim]/quit or Ctrl-D ends[/dim]")
        except EOFError:
            return


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Chat with the deployed service; /help lists the commands. Lines may also come through a pipe."""
    # nox keeps Ctrl-C from ending this program, and that is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    target = find_target()
    console = Console(highlight=False, soft_wrap=True)
    style = "cyan" if console.is_terminal else None

    def write(text: str) -> None:
        console.print(text, end="", markup=False, style=style)

    with openai.OpenAI(
        base_url=f"{target.url}/v1", api_key=target.key or "none", max_retries=0, timeout=_TIMEOUT_SECONDS
    ) as client:
        chat = Chat(client, target, write)
        if sys.stdin.isatty():
            console.print(f"[dim]{target.url}; /help lists the commands[/dim]")
        failed = False
        for line in _lines(console):
            if not chat.take(line):
                break
            failed |= chat.failed
    # Whoever pipes lines in sees no message scroll by; the exit status tells.
    if failed and not sys.stdin.isatty():
        sys.exit(1)
