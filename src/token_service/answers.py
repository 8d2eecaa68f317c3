"""Response bodies in OpenAI's shapes."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """Builds every body of one request; subclasses know the route's shape.

    Attributes:
        model: Name of the model.
        prompt_tokens: Length of the prompt.
        with_usage: Chunks carry `usage` (null except in the last).
    """

    model: str
    prompt_tokens: int
    with_usage: bool = False
    created: int = field(default_factory=lambda: int(time.time()))
    key: str = field(default_factory=lambda: secrets.token_hex(12))

    prefix = ""
    whole_object = ""
    chunk_object = ""

    def usage(self, completion_tokens: int) -> Body:
        """Return the usage object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
        }

    def opening(self) -> list[Body]:
        """Return the chunks sent before the first token."""
        return []

    def chunk(self, text: str) -> Body:
        """Return the chunk that carries `text`."""
        return self._chunk([self._delta(text, None)])

    def last_chunk(self, finish: str) -> Body:
        """Return the only chunk with a finish reason; it carries no text."""
        return self._chunk([self._delta("", finish)])

    def usage_chunk(self, completion_tokens: int) -> Body:
        """Return the chunk after the last: no choices, only usage."""
        return self._chunk([]) | {"usage": self.usage(completion_tokens)}

    def whole(self, text: str, finish: str, completion_tokens: int) -> Body:
        """Return the body of an answer that is not streamed."""
        return self._head(self.whole_object) | {
            "choices": [self._choice(text, finish)],
            "usage": self.usage(completion_tokens),
        }

    def _head(self, kind: str) -> Body:
        return {"id": f"{self.prefix}-{self.key}", "object": kind, "created": self.created, "model": self.model}

    def _chunk(self, choices: list[Body]) -> Body:
        body = self._head(self.chunk_object) | {"choices": choices}
        return body | {"usage": None} if self.with_usage else body

    def _delta(self, text: str, finish: str | None) -> Body:
        raise NotImplementedError

    def _choice(self, text: str, finish: str) -> Body:
        raise NotImplementedError


class CompletionAnswer(Answer):
    """Shapes of `/v1/completions`."""

    prefix = "cmpl"
    whole_object = "text_completion"
    chunk_object = "text_completion"

    def _delta(self, text: str, finish: str | None) -> Body:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}

    def _choice(self, text: str, finish: str) -> Body:
        return self._delta(text, finish)


class ChatAnswer(Answer):
    """Shapes of `/v1/chat/completions`."""

    prefix = "chatcmpl"
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def opening(self) -> list[Body]:
        """Return the chunk that names the speaker."""
        delta = {"role": "assistant", "content": ""}
        return [self._chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}])]

    def _delta(self, text: str, finish: str | None) -> Body:
        delta = {} if finish else {"content": text}
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}

    def _choice(self, text: str, finish: str) -> Body:
        message = {"role": "assistant", "content": text}
        return {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
