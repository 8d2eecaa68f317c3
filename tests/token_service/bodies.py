"""What request bodies are made of: strategies for hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

_numbers = st.one_of(
    st.integers(min_value=-(2**70), max_value=2**70),
    st.floats(),
    st.sampled_from([0, 1, -1, 0.0, -0.0, 1e-30, 1e308, 2**31, 2**63, 10**400]),
)
_texts = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["", "\x00", "\ud800", "\u202e", "<|eos|>", "<|bos|>" * 20, "👩‍👩‍👧" * 10, "a" * 5000, "\n\n", "{{ 7 * 7 }}"]
    ),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), _numbers, _texts),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=12,
)
COMMON: dict[str, st.SearchStrategy[Any]] = {
    "max_tokens": st.integers(0, 12),
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0.001, 1),
    "top_k": st.integers(-1, 2000),
    "min_p": st.floats(0, 1),
    "n": st.integers(1, 4),
    "stop": st.text(min_size=1, max_size=3) | st.lists(st.text(min_size=1, max_size=3), max_size=4),
    "seed": st.integers(-(2**63), 2**63 - 1),
    "presence_penalty": st.floats(-2, 2),
    "frequency_penalty": st.floats(-2, 2),
    "repetition_penalty": st.floats(0.01, 10),
    "logit_bias": st.dictionaries(st.integers(0, 1600).map(str), st.floats(-100, 100), max_size=5),
    "stream": st.booleans(),
    "stream_options": st.fixed_dictionaries({}, optional={"include_usage": st.booleans()}),
    "user": _texts,
    "response_format": st.sampled_from([{"type": "text"}, {"type": "json_object"}]),
}
_ids = st.lists(st.integers(0, 1700), min_size=1, max_size=80)
_role = st.sampled_from(["user", "assistant", "system", "developer", "tool"])
_content = _texts | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": _texts}), max_size=3)
_message = st.fixed_dictionaries({"role": _role, "content": _content})
_model = {"model": st.just("demo")}
BODIES = {
    "/v1/completions": st.fixed_dictionaries(
        _model | {"prompt": _texts | st.lists(_texts, max_size=3) | _ids | st.lists(_ids, max_size=3)},
        optional=COMMON | {"logprobs": st.integers(0, 20), "echo": st.booleans()},
    ),
    "/v1/chat/completions": st.fixed_dictionaries(
        _model | {"messages": st.lists(_message, min_size=1, max_size=4)},
        optional=COMMON
        | {
            "logprobs": st.booleans(),
            "top_logprobs": st.integers(0, 20),
            "max_completion_tokens": st.integers(1, 12),
        },
    ),
    "/tokenize": st.fixed_dictionaries(
        _model,
        optional={"prompt": _texts, "messages": st.lists(_message, max_size=3), "return_token_strs": st.booleans()},
    ),
    "/detokenize": st.fixed_dictionaries(_model | {"tokens": _ids}),
}
