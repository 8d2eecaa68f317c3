"""What users of an OpenAI-compatible server rely on, seen through the `openai` client."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx
    import openai

    from tests.live.conftest import Target

_PROMPT = "The statement is used to"
_MESSAGES: Any = [{"role": "user", "content": "Tell me about the import statement."}]


def test_streamed_completion_equals_the_whole_one(api: openai.OpenAI, model: str) -> None:
    """At temperature 0 the pieces join to the text of the plain answer, with one finish reason, in the last chunk."""
    whole = api.completions.create(model=model, prompt=_PROMPT, max_tokens=24, temperature=0)
    chunks = list(api.completions.create(model=model, prompt=_PROMPT, max_tokens=24, temperature=0, stream=True))
    assert whole.choices[0].text
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    reasons: list[Any] = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + [whole.choices[0].finish_reason]
    assert len({chunk.id for chunk in chunks}) == 1


def test_streamed_chat_equals_the_whole_one(api: openai.OpenAI, model: str) -> None:
    """The first chunk names the assistant; with include_usage the last one has usage and no choices."""
    whole = api.chat.completions.create(model=model, messages=_MESSAGES, max_tokens=24, temperature=0)
    *chunks, last = api.chat.completions.create(
        model=model,
        messages=_MESSAGES,
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
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage is not None
    assert whole.usage is not None
    assert last.usage.total_tokens == whole.usage.total_tokens


def test_answers_have_openais_shapes(api: openai.OpenAI, model: str) -> None:
    """Kind, id, model and role are where clients look for them."""
    completion = api.completions.create(model=model, prompt=_PROMPT, max_tokens=1)
    chat = api.chat.completions.create(model=model, messages=_MESSAGES, max_tokens=1)
    assert (completion.object, chat.object) == ("text_completion", "chat.completion")
    assert completion.id.startswith("cmpl-")
    assert chat.id.startswith("chatcmpl-")
    assert completion.model == chat.model == model
    assert chat.choices[0].message.role == "assistant"
    assert completion.created > 1_700_000_000


def test_messages_may_be_lists_of_text_parts(api: openai.OpenAI, model: str) -> None:
    """Parts mean the same as their joined text; `developer` means `system`."""

    def answer(content: Any, role: str = "system") -> str | None:  # noqa: ANN401 - both forms
        messages: Any = [{"role": role, "content": "Be short."}, {"role": "user", "content": content}]
        done = api.chat.completions.create(model=model, messages=messages, max_tokens=12, temperature=0)
        return done.choices[0].message.content

    parts = [{"type": "text", "text": "Tell me "}, {"type": "text", "text": "about lists."}]
    assert answer(parts) == answer("Tell me about lists.") == answer("Tell me about lists.", "developer")


def test_both_names_of_the_limit_work(api: openai.OpenAI, model: str) -> None:
    """`max_completion_tokens` is today's name of `max_tokens`."""
    asked: Any = {"model": model, "messages": _MESSAGES, "temperature": 0}
    old = api.chat.completions.create(**asked, max_tokens=3)
    new = api.chat.completions.create(**asked, max_completion_tokens=3)
    assert old.choices[0].message.content == new.choices[0].message.content
    assert new.usage is not None
    assert new.usage.completion_tokens <= 3


def test_usage_adds_up(api: openai.OpenAI, model: str) -> None:
    """Total is prompt plus completion, and completion respects max_tokens."""
    usage = api.completions.create(model=model, prompt=_PROMPT, max_tokens=7).usage
    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 1 <= usage.completion_tokens <= 7


def test_limit_is_the_finish_reason(http: httpx.Client, endless: dict[str, Any]) -> None:
    """An answer cut at max_tokens has exactly so many tokens and says `length`."""
    done = http.post("/v1/completions", json=endless | {"max_tokens": 9}).json()
    assert done["choices"][0]["finish_reason"] == "length"
    assert done["usage"]["completion_tokens"] == 9


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


def test_any_stop_string_is_found_wherever_it_lies(api: openai.OpenAI, model: str) -> None:
    """Every window of the text, whatever tokens it spans, ends the streamed text where it first occurs."""
    asked: Any = {"model": model, "prompt": _PROMPT, "max_tokens": 16, "temperature": 0}
    text = api.completions.create(**asked).choices[0].text
    for begin in range(0, len(text) - 3, 3):
        stop = text[begin : begin + 3]
        pieces = [chunk.choices[0].text for chunk in api.completions.create(**asked, stop=stop, stream=True)]
        assert "".join(pieces) == text[: text.index(stop)], repr(stop)


def test_first_of_several_stop_strings_counts(api: openai.OpenAI, model: str) -> None:
    """A list of up to four."""
    asked: Any = {"model": model, "prompt": _PROMPT, "max_tokens": 24, "temperature": 0}
    text = api.completions.create(**asked).choices[0].text
    stops = [text[12:15], text[4:7], "never in there", "nor this"]
    expected = text[: min(text.index(stop) for stop in stops[:2])]
    assert api.completions.create(**asked, stop=stops).choices[0].text == expected


def test_seed_reproduces(api: openai.OpenAI, model: str) -> None:
    """The same seed gives the same text whichever replica answers; another seed gives another."""

    def text(seed: int) -> str:
        done = api.completions.create(model=model, prompt=_PROMPT, max_tokens=16, temperature=1.2, seed=seed)
        return done.choices[0].text

    assert len({text(3) for _ in range(4)}) == 1
    assert len({text(seed) for seed in range(4)}) > 1


def test_concurrent_streams_stay_apart(target: Target, model: str) -> None:
    """Sixteen streams of the asynchronous client at once: each gives what it gives alone."""
    prompts = [f"{word} is" for word in ("This", "A class", "An object", "The value")]

    async def work() -> tuple[list[str], list[str]]:
        async with target.asynchronous() as client:

            async def text(prompt: str) -> str:
                stream = await client.completions.create(
                    model=model, prompt=prompt, max_tokens=24, temperature=0, stream=True
                )
                return "".join([chunk.choices[0].text async for chunk in stream])

            alone = [await text(prompt) for prompt in prompts]
            return alone, await asyncio.gather(*map(text, prompts * 4))

    alone, together = asyncio.run(work())
    assert together == alone * 4


def test_asynchronous_chat_is_the_same(target: Target, api: openai.OpenAI, model: str) -> None:
    """Both clients, the same text."""

    async def work() -> str | None:
        async with target.asynchronous() as client:
            done = await client.chat.completions.create(model=model, messages=_MESSAGES, max_tokens=12, temperature=0)
            return done.choices[0].message.content

    plain = api.chat.completions.create(model=model, messages=_MESSAGES, max_tokens=12, temperature=0)
    assert asyncio.run(work()) == plain.choices[0].message.content


def test_sampling_beside_greedy_does_not_disturb_it(target: Target, model: str) -> None:
    """Parameters belong to their request: greedy answers stay the same among hot ones."""

    async def work() -> tuple[str, list[str]]:
        async with target.asynchronous() as client:

            async def text(temperature: float, **more: Any) -> str:  # noqa: ANN401 - parameters of a request
                done = await client.completions.create(
                    model=model, prompt=_PROMPT, max_tokens=16, temperature=temperature, **more
                )
                return str(done.choices[0].text)

            alone = await text(0)
            hot = [text(2, seed=number, extra_body={"top_k": 5 + number}) for number in range(6)]
            found = await asyncio.gather(*(text(0) for _ in range(6)), *hot)
            return alone, found[:6]

    alone, among = asyncio.run(work())
    assert among == [alone] * 6
