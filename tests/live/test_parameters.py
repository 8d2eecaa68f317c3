"""Parameters of a request, each with an effect that can be seen."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx
    import openai

_PROMPT = "The statement is used to"


def _tokens(http: httpx.Client, model: str, prompt: str) -> list[int]:
    answer = http.post("/tokenize", json={"model": model, "prompt": prompt})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["tokens"])


def test_n_choices_have_their_indices(api: openai.OpenAI, model: str) -> None:
    """Drawn, they differ; the prompt is counted once."""
    done = api.completions.create(model=model, prompt=_PROMPT, max_tokens=12, temperature=1.5, n=4, seed=5)
    assert [choice.index for choice in done.choices] == [0, 1, 2, 3]
    assert len({choice.text for choice in done.choices}) > 1
    one = api.completions.create(model=model, prompt=_PROMPT, max_tokens=12)
    assert done.usage is not None
    assert one.usage is not None
    assert done.usage.prompt_tokens == one.usage.prompt_tokens


def test_n_choices_stream_side_by_side(api: openai.OpenAI, model: str) -> None:
    """The pieces of each index join to the whole answer's choice; each has one finish reason, in its last chunk."""
    asked: Any = {"model": model, "prompt": _PROMPT, "max_tokens": 12, "temperature": 1.5, "n": 3, "seed": 5}
    whole = api.completions.create(**asked)
    texts: dict[int, str] = collections.defaultdict(str)
    finished: dict[int, str] = {}
    for chunk in api.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            assert choice.index not in finished
            texts[choice.index] += choice.text
            if choice.finish_reason:
                finished[choice.index] = choice.finish_reason
    assert [texts[choice.index] for choice in whole.choices] == [choice.text for choice in whole.choices]
    assert finished == {choice.index: choice.finish_reason for choice in whole.choices}


def test_chat_has_n_choices_too(api: openai.OpenAI, model: str) -> None:
    """Each with its role."""
    messages: Any = [{"role": "user", "content": "What is a list?"}]
    done = api.chat.completions.create(model=model, messages=messages, max_tokens=4, n=2)
    assert [(choice.index, choice.message.role) for choice in done.choices] == [(0, "assistant"), (1, "assistant")]


def test_list_of_prompts_is_answered_in_order(api: openai.OpenAI, model: str) -> None:
    """Choices of one request equal those of single ones."""
    prompts = ["This is", "A class is", "An object"]
    asked: Any = {"model": model, "max_tokens": 8, "temperature": 0}
    single = [api.completions.create(prompt=prompt, **asked).choices[0].text for prompt in prompts]
    done = api.completions.create(prompt=prompts, **asked)
    assert [choice.text for choice in done.choices] == single
    assert [choice.index for choice in done.choices] == [0, 1, 2]


def test_token_ids_are_a_prompt(http: httpx.Client, api: openai.OpenAI, model: str) -> None:
    """One list, or several: what the text's own tokens give."""
    ids = _tokens(http, model, _PROMPT)
    asked: Any = {"model": model, "max_tokens": 8, "temperature": 0}
    text = api.completions.create(prompt=_PROMPT, **asked).choices[0].text
    assert api.completions.create(prompt=ids, **asked).choices[0].text == text
    assert [choice.text for choice in api.completions.create(prompt=[ids, ids], **asked).choices] == [text, text]


def test_echo_begins_with_the_prompt(api: openai.OpenAI, model: str) -> None:
    """Streamed or not."""
    asked: Any = {"model": model, "prompt": _PROMPT, "max_tokens": 8, "temperature": 0}
    plain = api.completions.create(**asked).choices[0].text
    assert api.completions.create(**asked, echo=True).choices[0].text == _PROMPT + plain
    pieces = [chunk.choices[0].text for chunk in api.completions.create(**asked, echo=True, stream=True)]
    assert "".join(pieces) == _PROMPT + plain


def test_echo_alone_scores_the_prompt(api: openai.OpenAI, model: str) -> None:
    """With max_tokens 0 and logprobs every token of the prompt but the first has a probability."""
    done = api.completions.create(model=model, prompt=_PROMPT, max_tokens=0, echo=True, logprobs=1).choices[0]
    assert done.text == _PROMPT
    scores = done.logprobs
    assert scores is not None
    assert scores.token_logprobs is not None
    assert all(score is not None and score <= 0 for score in scores.token_logprobs[1:])


def test_logprobs_of_a_completion(api: openai.OpenAI, model: str) -> None:
    """As many as tokens, at most 0; at temperature 0 the chosen one is the likeliest; offsets point into the text."""
    done = api.completions.create(model=model, prompt=_PROMPT, max_tokens=8, temperature=0, logprobs=3)
    choice = done.choices[0]
    scores: Any = choice.logprobs
    count = len(scores.tokens)
    assert 1 <= count <= 8
    assert [len(part) for part in (scores.token_logprobs, scores.top_logprobs, scores.text_offset)] == [count] * 3
    assert "".join(scores.tokens) == choice.text
    for token, score, top, offset in zip(
        scores.tokens, scores.token_logprobs, scores.top_logprobs, scores.text_offset, strict=True
    ):
        assert score <= 0
        assert score == pytest.approx(max(top.values()))
        assert 3 <= len(top) <= 4
        assert choice.text[offset:].startswith(token)


def test_logprobs_of_a_chat(api: openai.OpenAI, model: str) -> None:
    """Each token with its bytes and as many alternatives as asked for, likeliest first; streamed the same."""
    messages: Any = [{"role": "user", "content": "What is a list?"}]
    asked: Any = {"model": model, "messages": messages, "max_tokens": 8, "temperature": 0, "logprobs": True}
    choice = api.chat.completions.create(**asked, top_logprobs=2).choices[0]
    entries: Any = choice.logprobs and choice.logprobs.content
    assert b"".join(bytes(entry.bytes) for entry in entries).decode() == choice.message.content
    for entry in entries:
        assert [len(entry.top_logprobs), entry.top_logprobs[0].logprob] == [2, pytest.approx(entry.logprob)]
        assert entry.top_logprobs[0].logprob >= entry.top_logprobs[1].logprob
    streamed: list[str] = []
    for chunk in api.chat.completions.create(**asked, top_logprobs=2, stream=True):
        found: Any = chunk.choices[0].logprobs
        streamed += [entry.token for entry in found.content] if found else []
    assert streamed == [entry.token for entry in entries]


def test_logprobs_do_not_change_the_text(api: openai.OpenAI, model: str) -> None:
    """Nor does asking for none of them."""
    asked: Any = {"model": model, "prompt": _PROMPT, "max_tokens": 12, "temperature": 0}
    plain = api.completions.create(**asked).choices[0].text
    assert {api.completions.create(**asked, logprobs=count).choices[0].text for count in (0, 5)} == {plain}


def test_logit_bias_forces_and_forbids_a_token(http: httpx.Client, api: openai.OpenAI, model: str) -> None:
    """+100 makes a token certain, -100 impossible."""
    asked: Any = {"model": model, "prompt": _PROMPT, "max_tokens": 6, "temperature": 0}
    first = api.completions.create(**asked, logprobs=0).choices[0]
    ids = http.post("/tokenize", json={"model": model, "prompt": first.text, "add_special_tokens": False}).json()[
        "tokens"
    ]
    banned = api.completions.create(**asked, logit_bias={str(ids[0]): -100}, logprobs=0).choices[0]
    forced = api.completions.create(**asked, logit_bias={str(ids[0]): 100}, logprobs=0).choices[0]
    assert first.logprobs is not None
    assert banned.logprobs is not None
    assert forced.logprobs is not None
    assert first.logprobs.tokens is not None
    assert first.logprobs.tokens[0] not in (banned.logprobs.tokens or ())
    assert forced.logprobs.tokens == [first.logprobs.tokens[0]] * 6


def test_penalties_reduce_repetition(http: httpx.Client, endless: dict[str, Any]) -> None:
    """Each of the three, strong enough, breaks a loop that the model is in."""
    bias = dict.fromkeys(endless["logit_bias"], 12)

    def distinct(**more: float) -> int:
        body = endless | {"max_tokens": 24, "logprobs": 0, "logit_bias": bias} | more
        answer = http.post("/v1/completions", json=body)
        assert answer.status_code == 200, answer.text
        return len(set(answer.json()["choices"][0]["logprobs"]["tokens"]))

    plain = distinct()
    assert distinct(frequency_penalty=2) > plain
    assert distinct(presence_penalty=2, frequency_penalty=2) > plain
    assert distinct(repetition_penalty=5) > plain


@pytest.mark.parametrize("change", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1}, {"temperature": 0}])
def test_narrow_sampling_is_greedy(http: httpx.Client, model: str, change: dict[str, float]) -> None:
    """When one token is left to draw from, it is the likeliest, at any temperature."""
    body = {"model": model, "prompt": _PROMPT, "max_tokens": 12, "temperature": 1.5}
    greedy = http.post("/v1/completions", json=body | {"temperature": 0}).json()["choices"][0]["text"]
    assert http.post("/v1/completions", json=body | change).json()["choices"][0]["text"] == greedy


def test_null_means_not_given(http: httpx.Client, model: str) -> None:
    """Whatever the parameter, known or not."""
    body = {"model": model, "prompt": _PROMPT, "max_tokens": 4, "temperature": 0}
    names = (
        "top_p",
        "n",
        "stop",
        "seed",
        "logprobs",
        "echo",
        "stream",
        "stream_options",
        "logit_bias",
        "suffix",
        "user",
    )
    plain = http.post("/v1/completions", json=body).json()
    answer = http.post("/v1/completions", json=body | dict.fromkeys(names))
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"] == plain["choices"]


def test_accepted_without_effect(http: httpx.Client, model: str) -> None:
    """`user` and a response format of text."""
    body = {"model": model, "prompt": _PROMPT, "max_tokens": 2, "user": "me", "response_format": {"type": "text"}}
    assert http.post("/v1/completions", json=body).status_code == 200
