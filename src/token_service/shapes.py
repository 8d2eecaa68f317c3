"""Answers as the OpenAPI document describes them. Nothing is built from these models, `answers` writes objects."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel, Field

_WHEN = {
    400: "The request is malformed, or does not fit the model.",
    401: "The API key is missing or wrong.",
    404: "No such model.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    429: "All places are taken; `Retry-After` says when to come back.",
    500: "The engine failed while generating.",
    503: "The engine is not there; `Retry-After` says when to come back.",
    504: "The request took longer than the service allows.",
}


class Error(BaseModel):
    """What went wrong."""

    message: str = Field(description="For people.")
    type: str
    param: str | None = Field(description="The parameter at fault.")
    code: str | None = Field(description="For programs.")


class ErrorBody(BaseModel):
    """Body of every 4xx and 5xx."""

    error: Error


class PromptDetails(BaseModel):
    """Where prompt tokens came from."""

    cached_tokens: int = Field(description="Taken from the prefix cache.")


class Usage(BaseModel):
    """Counted tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class CompletionLogprobs(BaseModel):
    """Log probabilities, one entry per token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One continuation."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    """Answer of `/v1/completions`."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage


class TopToken(BaseModel):
    """A likely token."""

    token: str
    logprob: float
    bytes: list[int]


class TokenScore(TopToken):
    """A chosen token."""

    top_logprobs: list[TopToken]


class ChatLogprobs(BaseModel):
    """Log probabilities, one entry per token."""

    content: list[TokenScore]
    refusal: None


class Answer(BaseModel):
    """What the model says."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: Answer
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(BaseModel):
    """Answer of `/v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class Model(BaseModel):
    """A served model."""

    id: str
    object: Literal["model"]
    created: int = Field(description="Unix time in seconds.")
    owned_by: str
    max_model_len: int | None = Field(description="Context in tokens.")


class Models(BaseModel):
    """All served models."""

    object: Literal["list"]
    data: list[Model]


class Tokens(BaseModel):
    """Answer of `/tokenize`."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class Detokenized(BaseModel):
    """Answer of `/detokenize`."""

    prompt: str


class Version(BaseModel):
    """Answer of `/version`."""

    version: str


class Health(BaseModel):
    """Answer of `/livez` and `/readyz`."""

    status: str
    models: dict[str, str]


Responses = dict[int | str, dict[str, Any]]


def described(model: type[BaseModel] | None, *failures: int, streamed: bool = False) -> Responses:
    """Return FastAPI's description of a route's answers.

    Args:
        model: Body of 200; None is plain text.
        failures: Statuses that carry an error body.
        streamed: 200 may be server-sent events as well.
    """
    done: dict[str, Any] = {"description": "Done."}
    if model is not None:
        done["model"] = model
    if model is None or streamed:
        kind = "text/event-stream" if streamed else "text/plain"
        done["content"] = {kind: {"schema": {"type": "string"}}}
    retry = {"headers": {"Retry-After": {"schema": {"type": "string"}, "description": "Seconds."}}}
    found: Responses = {200: done}
    for status in failures:
        late = retry if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE) else {}
        found[status] = {"model": ErrorBody, "description": _WHEN[status]} | late
    return found
