"""What users of an OpenAI-compatible server rely on, seen through the `openai` client."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

import openai

if TYPE_CHECKING:
    import httpx

_PROMPT = "The statement is used to"


def test_streamed_completion_equals_the_whole_one(api: openai.OpenAI, model: str) -> None:
    """At temperature 0 the pieces join to the text of the plain answer, with one finish reason, in the last chunk."""
    whole = api.completions.create(model=model, prompt=_PROMPT, max_tokens=24, temperature=0)
    chunks = list(api.completions.create(model=model, prompt=_PROMPT, max_tokens=24, temperature=0, stream=True))
    assert whole.choices[0].text
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    reasons: list[Any] = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + [whole.choices[0].finish_reason]


def test_streamed_chat_equals_the_whole_one(api: openai.OpenAI, model: str) -> None:
    """The first chunk names the assistant; with include_usage the last one has usage and no choices."""
    messages: Any = [{"role": "user", "content": "Tell me about the import statement."}]
    whole = api.chat.completions.create(model=model, messages=messages, max_tokens=24, temperature=0)
    *chunks, last = api.chat.completions.create(
        model=model,
        messages=messages,
        max_tokens=24,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == [
        whole.choices[0].finish_reason
    ]
    assert chunks[-1].choices[0].finish_reason
    assert last.choices == []
    assert last.usage == whole.usage


def test_usage_adds_up(api: openai.OpenAI, model: str) -> None:
    """Total is prompt plus completion, and completion respects max_tokens."""
    usage = api.completions.create(model=model, prompt=_PROMPT, max_tokens=7).usage
    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 1 <= usage.completion_tokens <= 7


def test_stream_is_framed_and_ends_with_done(http: httpx.Client, model: str) -> None:
    """Server-sent events, one JSON object each, then [DONE] and nothing after it."""
    body = {"model": model, "prompt": _PROMPT, "max_tokens": 8, "stream": True}
    with http.stream("POST", "/v1/completions", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = answer.read().decode()
    frames = text.strip().split("\n\n")
    assert frames[-1] == "data: [DONE]", text
    assert all(json.loads(frame.removeprefix("data: "))["choices"] for frame in frames[:-1])


def test_stop_string_is_not_shown(api: openai.OpenAI, model: str) -> None:
    """A stop string cut from inside the text ends it right there, across token borders, streamed or not."""
    text = api.completions.create(model=model, prompt=_PROMPT, max_tokens=24, temperature=0).choices[0].text
    stop = text[len(text) // 2 : len(text) // 2 + 5]
    asked: Any = {"model": model, "prompt": _PROMPT, "max_tokens": 24, "temperature": 0, "stop": [stop]}
    choice = api.completions.create(**asked).choices[0]
    assert (choice.text, choice.finish_reason) == (text[: text.index(stop)], "stop")
    pieces = [chunk.choices[0].text for chunk in api.completions.create(**asked, stream=True)]
    assert "".join(pieces) == choice.text


def test_seed_reproduces(api: openai.OpenAI, model: str) -> None:
    """The same seed gives the same text whichever replica answers."""
    texts = {
        api.completions.create(model=model, prompt=_PROMPT, max_tokens=16, temperature=1.2, seed=3).choices[0].text
        for _ in range(4)
    }
    assert len(texts) == 1


def test_concurrent_streams_stay_apart(model: str) -> None:
    """Eight streams of the asynchronous client at once: each gives what it gives alone."""
    prompts = [f"{word} is" for word in ("This", "A class", "An object", "The value")]

    async def work() -> tuple[list[str], list[str]]:
        url = os.environ.get("SLIPWAY_BASE_URL", "http://127.0.0.1:8000").rstrip("/") + "/v1"
        key = os.environ.get("SLIPWAY_API_KEY") or "none"
        async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0, timeout=30) as client:

            async def text(prompt: str) -> str:
                stream = await client.completions.create(
                    model=model, prompt=prompt, max_tokens=16, temperature=0, stream=True
                )
                return "".join([chunk.choices[0].text async for chunk in stream])

            alone = [await text(prompt) for prompt in prompts]
            return alone, await asyncio.gather(*map(text, prompts * 2))

    alone, together = asyncio.run(work())
    assert together == alone * 2
