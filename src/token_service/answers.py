"""Response bodies in OpenAI's shapes."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from token_service import logprobs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from token_service.detokenizer import Entry, Piece
    from token_service.generation import Generation
    from token_service.tokenizer import ModelTokenizer

Body = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """Builds every body of one request; subclasses know the route's shape.

    Attributes:
        tokenizer: The model's.
        with_logprobs: Choices carry log probabilities.
        with_usage: Chunks carry `usage` (null except in the last).
    """

    tokenizer: ModelTokenizer
    with_logprobs: bool = False
    with_usage: bool = False
    created: int = field(default_factory=lambda: int(time.time()))
    key: str = field(default_factory=lambda: secrets.token_hex(12))

    prefix = ""
    whole_object = ""
    chunk_object = ""

    def opening(self, index: int) -> list[Body]:
        """Return the chunks sent before the first token of a choice."""
        del index
        return []

    def chunk(self, index: int, piece: Piece) -> Body:
        """Return the chunk that carries a piece of a choice."""
        return self._chunk([self._delta(index, piece.text, self._logprobs(piece.entries), None)])

    def last_chunk(self, index: int, finish: str) -> Body:
        """Return the only chunk of a choice with a finish reason; it carries no text."""
        return self._chunk([self._delta(index, "", None, finish)])

    def usage_chunk(self, generation: Generation) -> Body:
        """Return the chunk after the last: no choices, only usage."""
        return self._chunk([]) | {"usage": usage(generation)}

    def whole(self, generation: Generation) -> Body:
        """Return the body of an answer that is not streamed."""
        choices = [
            self._choice(choice.index, choice.text, self._logprobs(choice.entries), choice.finish or "stop")
            for choice in generation.choices
        ]
        return self._head(self.whole_object) | {"choices": choices, "usage": usage(generation)}

    def _head(self, kind: str) -> Body:
        return {
            "id": f"{self.prefix}-{self.key}",
            "object": kind,
            "created": self.created,
            "model": self.tokenizer.model,
        }

    def _chunk(self, choices: list[Body]) -> Body:
        body = self._head(self.chunk_object) | {"choices": choices}
        return body | {"usage": None} if self.with_usage else body

    def _logprobs(self, entries: Sequence[Entry]) -> Body | None:
        return self._format(entries) if self.with_logprobs else None

    def _format(self, entries: Sequence[Entry]) -> Body:
        raise NotImplementedError

    def _delta(self, index: int, text: str, scores: Body | None, finish: str | None) -> Body:
        raise NotImplementedError

    def _choice(self, index: int, text: str, scores: Body | None, finish: str) -> Body:
        raise NotImplementedError


class CompletionAnswer(Answer):
    """Shapes of `/v1/completions`."""

    prefix = "cmpl"
    whole_object = "text_completion"
    chunk_object = "text_completion"

    def _format(self, entries: Sequence[Entry]) -> Body:
        return logprobs.completion(self.tokenizer, entries)

    def _delta(self, index: int, text: str, scores: Body | None, finish: str | None) -> Body:
        return {"index": index, "text": text, "logprobs": scores, "finish_reason": finish}

    def _choice(self, index: int, text: str, scores: Body | None, finish: str) -> Body:
        return self._delta(index, text, scores, finish)


class ChatAnswer(Answer):
    """Shapes of `/v1/chat/completions`."""

    prefix = "chatcmpl"
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def opening(self, index: int) -> list[Body]:
        """Return the chunk that names the speaker."""
        delta = {"role": "assistant", "content": ""}
        return [self._chunk([{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}])]

    def _format(self, entries: Sequence[Entry]) -> Body:
        return logprobs.chat(self.tokenizer, entries)

    def _delta(self, index: int, text: str, scores: Body | None, finish: str | None) -> Body:
        delta = {} if finish else {"content": text}
        return {"index": index, "delta": delta, "logprobs": scores, "finish_reason": finish}

    def _choice(self, index: int, text: str, scores: Body | None, finish: str) -> Body:
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"index": index, "message": message, "logprobs": scores, "finish_reason": finish}


def usage(generation: Generation) -> Body:
    """Return the usage object; a prompt counts once, however many choices it has."""
    prompt, completion = generation.prompt_tokens, generation.completion_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": generation.cached_tokens},
    }
