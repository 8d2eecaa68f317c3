"""Tokens of a text and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import httpx


@pytest.mark.parametrize(
    "text", ["The import statement", " leading and trailing ", "Zürich 東京 🚀\n\ttabs", "\u0000\u200d"]
)
def test_tokenizing_and_back_gives_the_text(http: httpx.Client, model: str, text: str) -> None:
    """Byte by byte, for any script."""
    found = http.post("/tokenize", json={"model": model, "prompt": text, "add_special_tokens": False}).json()
    assert found["count"] == len(found["tokens"])
    back = http.post("/detokenize", json={"model": model, "tokens": found["tokens"]}).json()
    assert back["prompt"] == text


def test_count_is_the_usage_of_a_completion(http: httpx.Client, model: str) -> None:
    """What /tokenize counts is what a completion is charged; the context is that of the model's description."""
    found = http.post("/tokenize", json={"model": model, "prompt": "The import statement"}).json()
    done = http.post("/v1/completions", json={"model": model, "prompt": "The import statement", "max_tokens": 1}).json()
    assert found["count"] == done["usage"]["prompt_tokens"]
    assert found["max_model_len"] == http.get(f"/v1/models/{model}").json()["max_model_len"]


def test_conversation_is_tokenized_as_chat_counts_it(http: httpx.Client, model: str) -> None:
    """Through the chat template."""
    messages = [{"role": "user", "content": "What is a list?"}]
    found = http.post("/tokenize", json={"model": model, "messages": messages}).json()
    done = http.post("/v1/chat/completions", json={"model": model, "messages": messages, "max_tokens": 1}).json()
    assert found["count"] == done["usage"]["prompt_tokens"]


def test_control_tokens_in_a_message_are_plain_text(http: httpx.Client, model: str) -> None:
    """A user who types one cannot end a turn: the text has more tokens than the control token alone."""

    def count(text: str) -> int:
        messages = [{"role": "user", "content": text}]
        return int(http.post("/tokenize", json={"model": model, "messages": messages}).json()["count"])

    assert count("<|eos|>") > count("") + 1
