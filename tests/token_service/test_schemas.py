"""Request bodies: what is understood, what is refused, and how much work a wrong one may cause."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import ValidationError

from token_service.schemas import ChatRequest, CompletionRequest, TokenizeRequest

_COMPLETION = {"model": "m", "prompt": "x"}
_CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


def _error(cls: type[CompletionRequest | ChatRequest | TokenizeRequest], body: dict[str, Any]) -> dict[str, Any]:
    with pytest.raises(ValidationError) as caught:
        cls.model_validate(body)
    found = caught.value.errors()
    assert len(found) <= 4
    return dict(found[0])


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]]), ("", [""])],
)
def test_prompt_has_four_forms(prompt: object, prompts: object) -> None:
    """A string, strings, tokens, lists of tokens."""
    assert CompletionRequest.model_validate(_COMPLETION | {"prompt": prompt}).prompts == prompts


@pytest.mark.parametrize("prompt", [[], [[]], ["a", 1], [1, "a"], [[1], 2], [True], [1.5], [-1], [2**40], {}, 5, None])
def test_other_prompts_are_refused(prompt: object) -> None:
    """Mixed and empty lists, and numbers that are no token ids."""
    assert _error(CompletionRequest, _COMPLETION | {"prompt": prompt})["loc"][0] == "prompt"


@pytest.mark.parametrize("name", [*CompletionRequest.model_fields, "best_of", "no_such_thing"])
def test_null_means_not_given(name: str) -> None:
    """Whatever the name, known or not, null changes nothing; a required one is missing then."""
    if name in _COMPLETION:
        assert _error(CompletionRequest, _COMPLETION | {name: None})["type"] == "missing"
    else:
        assert CompletionRequest.model_validate(_COMPLETION | {name: None}).sampling(0)


def test_unknown_parameters_are_named() -> None:
    """At every depth."""
    assert _error(CompletionRequest, _COMPLETION | {"best_of": 2, "x": 0})["ctx"]["names"] == ["best_of", "x"]
    nested = _error(ChatRequest, _CHAT | {"messages": [{"role": "user", "content": "x", "name": "me"}]})
    assert (nested["loc"], nested["ctx"]["names"]) == (("messages", 0), ["name"])


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 2.1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_k": -2},
        {"min_p": 1.1},
        {"n": 0},
        {"n": 129},
        {"max_tokens": 0},
        {"max_tokens": 1e29},
        {"presence_penalty": 2.1},
        {"frequency_penalty": -2.1},
        {"repetition_penalty": 0},
        {"logprobs": 21},
        {"logprobs": True},
        {"stop": ["a"] * 5},
        {"stop": "x" * 257},
        {"logit_bias": {"a": 1}},
        {"logit_bias": {"1": 101}},
        {"logit_bias": {"1": float("nan")}},
        {"logit_bias": {"\u0661": 1}},
        {"logit_bias": dict.fromkeys(map(str, range(1025)), 1)},
        {"response_format": "text"},
        {"response_format": {"type": "json_object"}},
        {"stream_options": {}},
        {"echo": "yes"},
    ],
)
def test_out_of_range_is_refused(change: dict[str, Any]) -> None:
    """Ranges are OpenAI's, or documented."""
    error = _error(CompletionRequest, _COMPLETION | change)
    named = error["loc"][0] if error["loc"] else error.get("ctx", {}).get("param", error["msg"])
    assert next(iter(change)) in str(named)


def test_limits_agree_with_each_other() -> None:
    """No tokens only to look at the prompt; the two names of the limit must agree; top_logprobs needs logprobs."""
    assert CompletionRequest.model_validate(_COMPLETION | {"max_tokens": 0, "echo": True}).limit == 0
    assert CompletionRequest.model_validate(_COMPLETION).limit == 16
    assert _error(ChatRequest, _CHAT | {"max_tokens": 0})["ctx"]["param"] == "max_tokens"
    assert _error(ChatRequest, _CHAT | {"max_tokens": 1, "max_completion_tokens": 2})["ctx"]["param"] == "max_tokens"
    assert _error(ChatRequest, _CHAT | {"top_logprobs": 1})["ctx"]["param"] == "top_logprobs"
    assert ChatRequest.model_validate(_CHAT | {"logprobs": True}).top == 0
    assert ChatRequest.model_validate(_CHAT | {"logprobs": False}).top is None


def test_each_choice_has_its_own_seed() -> None:
    """Choice i adds i, within 64 bits; without a seed every choice draws from chance."""
    request = CompletionRequest.model_validate(_COMPLETION | {"seed": 2**63 - 1, "n": 2})
    assert [request.sampling(choice).seed for choice in range(2)] == [2**63 - 1, -(2**63)]
    assert CompletionRequest.model_validate(_COMPLETION).sampling(1).seed is None


def test_coldest_temperatures_are_greedy() -> None:
    """Dividing by them would overflow."""
    request = CompletionRequest.model_validate(_COMPLETION | {"temperature": 1e-300})
    assert request.sampling(0).temperature == 0


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": [None] * 200_000},
        {"prompt": [1] * 200_000 + ["x"]},
        {"prompt": [["x"]] * 100_000},
        {"stop": [1] * 200_000},
        {"logit_bias": {str(number): "x" for number in range(50_000)}},
        {f"x{number}": 1 for number in range(50_000)},
    ],
    ids=["nulls", "late", "nested", "stops", "biases", "names"],
)
def test_many_mistakes_cost_no_more_than_one(change: dict[str, Any]) -> None:
    """A megabyte of mistakes gives one error, quickly: other streams wait meanwhile."""
    started = time.perf_counter()
    _error(CompletionRequest, _COMPLETION | change)
    assert time.perf_counter() - started < 0.2


def test_tokenize_takes_a_prompt_or_messages() -> None:
    """Not both, not none, and no option of the other."""
    messages = _CHAT["messages"]
    for body in ({}, {"prompt": "x", "messages": messages}, {"messages": messages, "add_special_tokens": False}):
        _error(TokenizeRequest, body)
