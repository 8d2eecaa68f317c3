"""What HTTP workers and engine processes say to each other over a Unix socket.

A frame is four bytes of length (big endian) and that many bytes of JSON. A worker sends `submit`, `cancel` and `probe`;
an engine greets with `hello`, answers each `submit` with `accepted` or `busy` without waiting for the model, and sends
`steps` after every forward pass and `status` twice a second. A connection that ends cancels everything submitted on it.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import orjson

FinishReason = Literal["stop", "length", "error"]
Message = dict[str, Any]

STATUS_SECONDS = 0.5
"""How often an engine says that it lives."""

_LENGTH = struct.Struct(">I")
_LONGEST = 1 << 28


class EngineBusy(Exception):  # noqa: N818 - a state, not a defect
    """All slots and waiting places of the engine are taken.

    Attributes:
        retry_after: Seconds after which a place is likely to be free, at least 1.
    """

    def __init__(self, retry_after: int = 1) -> None:
        super().__init__("all places are taken")
        self.retry_after = retry_after


class EngineFailed(Exception):  # noqa: N818 - read as "the engine failed"
    """The engine is gone, not there yet, or could not finish this sequence; the text may be shown to clients."""


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens.

    Attributes:
        temperature: 0 takes the most likely token, whatever the other values say.
        top_p: Smallest set of tokens with this probability mass; 1 is off.
        top_k: This many most likely tokens; 0 or less is off.
        min_p: Tokens at least this fraction as likely as the likeliest; 0 is off.
        seed: Makes the draw repeatable; None draws from the system's entropy.
        presence_penalty: Subtracted from the logit of every token generated before; 0 is off.
        frequency_penalty: Subtracted once per earlier generation of the token; 0 is off.
        repetition_penalty: Divides positive and multiplies negative logits of tokens in prompt or answer; 1 is off.
        logit_bias: (token id, value added to its logit).
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()


_SAMPLING = tuple(part.name for part in fields(Sampling))


@dataclass(frozen=True)
class Job:
    """One sequence to generate. It ends with an end-of-sequence token (`stop`) or at `max_tokens` (`length`).

    Attributes:
        prompt: Token ids, at least one, each below the vocabulary size.
        max_tokens: Upper bound of generated tokens; 0 only together with `prompt_logprobs`.
        sampling: How to choose tokens.
        logprobs: None reports none; K reports the chosen token's and those of the K most likely ones (K may be 0).
        prompt_logprobs: Report the prompt tokens' log probabilities as well; needs `logprobs`.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0))
    logprobs: int | None = None
    prompt_logprobs: bool = False


@dataclass(frozen=True)
class Token:
    """One token with its log probability under the unchanged model: before temperature, penalties and bias.

    Attributes:
        id: Token id.
        logprob: Natural logarithm; None when not asked for, or for the first token of a prompt.
        top: The K most likely tokens as (id, logprob), likeliest first.
    """

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Step:
    """What one forward pass added to a sequence.

    Attributes:
        tokens: New tokens, the end-of-sequence token included.
        finish: Why the sequence ended; None while it goes on. `error`: the engine gave this sequence up.
        cached: Prompt tokens that came from the prefix cache; in the first step only.
        prompt: The prompt's tokens with log probabilities, in the first step of a job with `prompt_logprobs`.
    """

    tokens: tuple[Token, ...]
    finish: FinishReason | None = None
    cached: int = 0
    prompt: tuple[Token, ...] = ()


@dataclass(frozen=True)
class Hello:
    """What an engine tells about its model when a worker connects.

    Attributes:
        model: Name of the model.
        context: Most tokens a prompt and its completion may have together.
        vocabulary: Number of token ids.
        places: Sequences the engine takes at most, running and waiting.
        created: Unix time in seconds, from the model folder.
        sha256: Of the model's manifest.
    """

    model: str
    context: int
    vocabulary: int
    places: int
    created: int
    sha256: str


def job_to_wire(job: Job) -> list[Any]:
    """Return a job as JSON takes it."""
    sampling = [getattr(job.sampling, name) for name in _SAMPLING]
    return [job.prompt, job.max_tokens, sampling, job.logprobs, job.prompt_logprobs]


def job_from_wire(wire: list[Any]) -> Job:
    """Return the job that `job_to_wire` wrote."""
    prompt, max_tokens, sampling, logprobs, prompt_logprobs = wire
    rules = dict(zip(_SAMPLING, sampling, strict=True))
    rules["logit_bias"] = tuple((int(token), float(value)) for token, value in rules["logit_bias"])
    return Job(tuple(prompt), max_tokens, Sampling(**rules), logprobs, prompt_logprobs)


def token_to_wire(token: Token) -> Any:  # noqa: ANN401 - a bare id is by far the commonest token
    """Return a token as JSON takes it: its id alone when there is nothing else."""
    return token.id if token.logprob is None and not token.top else [token.id, token.logprob, token.top]


def token_from_wire(wire: Any) -> Token:  # noqa: ANN401
    """Return the token that `token_to_wire` wrote."""
    if isinstance(wire, int):
        return Token(wire)
    identity, logprob, top = wire
    return Token(identity, logprob, tuple((int(i), float(p)) for i, p in top))


def step_to_wire(step: Step) -> list[Any]:
    """Return a step as JSON takes it."""
    tokens, prompt = [list(map(token_to_wire, many)) for many in (step.tokens, step.prompt)]
    return [tokens, step.finish, step.cached, prompt]


def step_from_wire(wire: list[Any]) -> Step:
    """Return the step that `step_to_wire` wrote."""
    tokens, finish, cached, prompt = wire
    return Step(tuple(map(token_from_wire, tokens)), finish, cached, tuple(map(token_from_wire, prompt)))


def pack(message: Message) -> bytes:
    """Return `message` as one frame."""
    body = orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)
    return _LENGTH.pack(len(body)) + body


async def receive(reader: asyncio.StreamReader) -> Message:
    """Return the next message.

    Raises:
        EOFError: the other side is gone, or sent what is not a frame.
    """
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > _LONGEST:
            raise EOFError(f"a frame of {length} bytes")
        message: Message = orjson.loads(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError, orjson.JSONDecodeError) as error:
        raise EOFError(str(error)) from None
    return message
