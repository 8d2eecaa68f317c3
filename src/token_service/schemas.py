"""Request bodies. Unknown parameters are refused, so that nobody believes in a setting that does nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

MAX_STOPS = 4


def _encodable(text: str) -> str:
    """Refuse lone surrogates: JSON can spell them, UTF-8 and hence the tokenizer cannot."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"not valid Unicode at character {error.start}") from None
    return text


_Text = Annotated[str, AfterValidator(_encodable)]
_Stop = Annotated[_Text, Field(min_length=1, max_length=256)]


class _Strict(BaseModel):
    """No coercion ("5" is not 5), no NaN, no unknown names."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(_Strict):
    """What a stream carries besides tokens."""

    include_usage: bool = False


class _Generation(_Strict):
    """Parameters common to both completion routes."""

    model: str
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=-1, description="0 or -1: off")
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: list[_Stop] | None = Field(default=None, max_length=MAX_STOPS, description="a string or up to 4")
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] = 1
    user: str | None = Field(default=None, description="accepted and ignored")

    @field_validator("stream", "temperature", "top_p", "top_k", "n", mode="before")
    @classmethod
    def _null_is_default(cls, value: object, info: object) -> object:
        if value is None:  # OpenAI's schema allows null for these and means the default
            name = str(getattr(info, "field_name", ""))
            return cls.model_fields[name].default
        return value

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop_is_a_list(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _options_need_a_stream(self) -> _Generation:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed when stream is true")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop strings, none by default."""
        return tuple(self.stop or ())

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return self.stream_options is not None and self.stream_options.include_usage


class CompletionRequest(_Generation):
    """Body of `POST /v1/completions`."""

    prompt: _Text

    @property
    def limit(self) -> int | None:
        """Tokens to generate at most; 16 unless told, as in OpenAI's API."""
        return self.max_tokens or 16


class TextPart(_Strict):
    """One part of a message given as a list."""

    type: Literal["text"]
    text: _Text


class Message(_Strict):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: _Text | list[TextPart]

    def rendered(self) -> dict[str, str]:
        """Return the turn as chat templates take it: `developer` is today's name for `system`."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class ChatRequest(_Generation):
    """Body of `POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_limit(self) -> ChatRequest:
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens differ; give one of them")
        return self

    @property
    def limit(self) -> int | None:
        """Tokens to generate at most; None means what the context leaves."""
        return self.max_completion_tokens or self.max_tokens
