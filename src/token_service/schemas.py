"""Request bodies. Unknown parameters are refused, so that nobody believes in a setting that does nothing."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from token_service.parameters import (
    LogitBias,
    MessageContent,
    Prompt,
    ResponseFormat,
    Stops,
    Strict,
    Text,
    TokenId,
    example,
    refuse,
)
from token_service.protocol import Sampling

_SIGNED = 1 << 63
_COLDEST = 0.001
"""Below it, dividing logits overflows before it changes the draw."""
COMPLETION_TOKENS = 16
"""Default of `max_tokens` for `/v1/completions`, as in OpenAI's API."""


class StreamOptions(Strict):
    """What a stream carries besides tokens."""

    include_usage: bool | None = Field(default=None, description="End the stream with a chunk that carries `usage`.")


class Generation(Strict):
    """Parameters common to both completion routes."""

    model: Text = Field(description="Name of a served model.")
    max_tokens: int | None = Field(default=None, ge=0, description="Tokens to generate at most.")
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="Below 0.001: always the likeliest token. Default 1."
    )
    top_p: float | None = Field(default=None, gt=0, le=1, description="Probability mass to draw from. Default 1.")
    top_k: int | None = Field(default=None, ge=-1, lt=1 << 31, description="Tokens to draw from; 0 or -1 is off.")
    min_p: float | None = Field(default=None, ge=0, le=1, description="Least share of the likeliest. Default 0: off.")
    n: int | None = Field(default=None, ge=1, le=128, description="Choices per prompt. Default 1.")
    stop: Stops | None = Field(default=None, description="Ends the text before it: a string or up to 4.")
    seed: int | None = Field(default=None, ge=-_SIGNED, lt=_SIGNED, description="Repeats the draw; choice i adds i.")
    presence_penalty: float | None = Field(default=None, ge=-2, le=2, description="Default 0: off.")
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2, description="Default 0: off.")
    repetition_penalty: float | None = Field(default=None, ge=0.01, le=10, description="Default 1: off.")
    logit_bias: LogitBias | None = Field(default=None, description="Token id to a value added to its logit.")
    stream: bool | None = Field(default=None, description="Answer with server-sent events, the last one `[DONE]`.")
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = Field(default=None, description="Only `text` is supported.")
    user: Text | None = Field(default=None, description="Accepted and ignored.")

    @model_validator(mode="after")
    def _options_need_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed when stream is true")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop strings, none by default."""
        return tuple(self.stop or ())

    @property
    def choices(self) -> int:
        """Choices per prompt."""
        return self.n or 1

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def sampling(self, choice: int) -> Sampling:
        """Return how to draw the tokens of one choice; each has a seed of its own, or all were alike."""
        seed = self.seed if self.seed is None else (self.seed + choice + _SIGNED) % (2 * _SIGNED) - _SIGNED
        temperature = _given(self.temperature, 1.0)
        return Sampling(
            temperature=temperature if temperature >= _COLDEST else 0.0,
            top_p=_given(self.top_p, 1.0),
            top_k=max(0, self.top_k or 0),
            min_p=_given(self.min_p, 0.0),
            seed=seed,
            presence_penalty=_given(self.presence_penalty, 0.0),
            frequency_penalty=_given(self.frequency_penalty, 0.0),
            repetition_penalty=_given(self.repetition_penalty, 1.0),
            logit_bias=tuple((int(token), float(value)) for token, value in (self.logit_bias or {}).items()),
        )


class CompletionRequest(Generation):
    """Body of `POST /v1/completions`."""

    model_config = example({"model": "demo", "prompt": "The import statement", "max_tokens": 32, "stream": True})

    prompt: Prompt = Field(description="A string, strings, token ids, or lists of token ids.")
    logprobs: int | None = Field(default=None, ge=0, le=20, description="Report this many of the likeliest tokens.")
    echo: bool | None = Field(default=None, description="Begin the text with the prompt.")

    @model_validator(mode="after")
    def _nothing_to_generate(self) -> Self:
        if self.max_tokens == 0 and not self.echo:
            raise refuse("max_tokens", "max_tokens must be at least 1 unless echo is true")
        return self

    @property
    def limit(self) -> int | None:
        """Tokens to generate at most."""
        return COMPLETION_TOKENS if self.max_tokens is None else self.max_tokens

    @property
    def top(self) -> int | None:
        """How many of the likeliest tokens to report; None reports no log probabilities."""
        return self.logprobs

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """The prompts, one or many."""
        prompt: Any = self.prompt
        return [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else prompt


class Message(Strict):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: MessageContent = Field(description="A string or a list of text parts.")

    def rendered(self) -> dict[str, str]:
        """Return the turn as chat templates take it: `developer` is today's name for `system`."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


_Messages = Annotated[list[Message], Field(min_length=1, fail_fast=True)]


class ChatRequest(Generation):
    """Body of `POST /v1/chat/completions`."""

    model_config = example(
        {
            "model": "demo",
            "messages": [{"role": "user", "content": "What is a list?"}],
            "max_tokens": 64,
            "stream": True,
        }
    )

    messages: _Messages = Field(description="The conversation so far.")
    max_completion_tokens: int | None = Field(default=None, ge=1, description="Today's name of `max_tokens`.")
    logprobs: bool | None = Field(default=None, description="Report log probabilities.")
    top_logprobs: int | None = Field(default=None, ge=0, le=20, description="Report this many of the likeliest tokens.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_tokens == 0:
            raise refuse("max_tokens", "max_tokens must be at least 1")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise refuse("max_tokens", "max_tokens and max_completion_tokens differ; give one of them")
        if self.top_logprobs and not self.logprobs:
            raise refuse("top_logprobs", "top_logprobs is only allowed when logprobs is true")
        return self

    @property
    def limit(self) -> int | None:
        """Tokens to generate at most; None means what the context leaves."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def top(self) -> int | None:
        """How many of the likeliest tokens to report; None reports no log probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None


class TokenizeRequest(Strict):
    """Body of `POST /tokenize`: a prompt or a conversation."""

    model_config = example({"model": "demo", "prompt": "The import statement"})

    model: Text | None = Field(default=None, description="May be left out when one model is served.")
    prompt: Text | None = None
    messages: _Messages | None = None
    add_special_tokens: bool | None = Field(default=None, description="For a prompt; default true.")
    add_generation_prompt: bool | None = Field(default=None, description="For messages; default true.")
    return_token_strs: bool | None = Field(default=None, description="Report each token's spelling; default false.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        if self.add_special_tokens is not None and self.prompt is None:
            raise refuse("add_special_tokens", "add_special_tokens needs prompt; a chat template adds its own")
        if self.add_generation_prompt is not None and self.messages is None:
            raise refuse("add_generation_prompt", "add_generation_prompt needs messages")
        return self


class DetokenizeRequest(Strict):
    """Body of `POST /detokenize`."""

    model_config = example({"model": "demo", "tokens": [1, 77, 78]})

    model: Text | None = Field(default=None, description="May be left out when one model is served.")
    tokens: Annotated[list[TokenId], Field(fail_fast=True)]


def _given(value: float | None, default: float) -> float:
    return default if value is None else float(value)
