"""Tokens are drawn by each sequence's own rules, and its neighbours do not matter."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch

from token_service.engine.sampler import Draw, choose, report
from token_service.protocol import Sampling

_LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, -30.0])


def _draw(logprobs: int | None = None, prompt: tuple[int, ...] = (), **rules: Any) -> Draw:  # noqa: ANN401 - fields of Sampling
    return Draw(Sampling(**rules), prompt, logprobs)


def _share(draws: int = 4000, logits: torch.Tensor = _LOGITS, **rules: Any) -> dict[int, float]:  # noqa: ANN401
    one = _draw(seed=5, **rules)
    found = Counter(choose(logits[None].clone(), [one])[0].id for _ in range(draws))
    return {token: count / draws for token, count in found.items()}


def test_temperature_zero_takes_the_likeliest() -> None:
    """Whatever top_k and top_p say."""
    assert choose(_LOGITS[None], [_draw(temperature=0, top_k=3, top_p=0.2)])[0].id == 0


def test_draws_follow_the_probabilities() -> None:
    """At temperature 1 the shares are the softmax; at 0.5 those of doubled logits."""
    for heat in (1.0, 0.5):
        expected = (_LOGITS / heat).softmax(-1).tolist()
        found = _share(temperature=heat)
        assert all(abs(found.get(token, 0) - share) < 0.03 for token, share in enumerate(expected))


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_k": 1}, {0}),
        ({"top_p": 0.6}, {0}),
        ({"top_p": 0.9}, {0, 1, 2}),
        ({"min_p": 0.3}, {0, 1}),
        ({"top_k": 3, "top_p": 0.7}, {0, 1}),
        ({"top_k": 100, "top_p": 1.0}, {0, 1, 2, 3}),
    ],
)
def test_filters_leave_only_what_they_allow(rules: dict[str, Any], allowed: set[int]) -> None:
    """top_k counts, top_p sums up among those, min_p compares with the likeliest."""
    assert set(_share(1500, **rules)) == allowed


def test_cut_beyond_the_first_candidates_is_exact() -> None:
    """A flat distribution of many tokens: top_p must look further than the likeliest few hundred."""
    flat = torch.linspace(0.01, 0, 5000)
    found = {choose(flat[None], [_draw(seed=s, top_p=0.5)])[0].id for s in range(400)}
    assert max(found) > 1500
    assert max(found) < 2510
    assert {choose(flat[None], [_draw(seed=s, min_p=0.995)])[0].id for s in range(200)} <= set(range(2600))


def test_neighbours_do_not_disturb_a_seed() -> None:
    """The same seed draws the same tokens alone and among others with other rules."""
    logits = torch.randn(3, 500, generator=torch.Generator().manual_seed(1))
    alone, among = _draw(seed=7, top_p=0.9), _draw(seed=7, top_p=0.9)
    others = [_draw(seed=1), _draw(temperature=0)]
    for _ in range(20):
        single = choose(logits[:1].clone(), [alone])[0]
        assert choose(logits.clone(), [among, *others])[0] == single


def test_penalties_and_bias_change_only_their_tokens() -> None:
    """Presence and frequency count generated tokens, repetition also the prompt's; a bias is added."""
    row = _LOGITS.clone()
    draw = _draw(presence_penalty=0.5, frequency_penalty=0.25, logit_bias=((4, 10.0),))
    for token in (1, 1, 2):
        draw.count(token)
    draw.change(row)
    assert row.tolist() == pytest.approx([2.0, 0.0, -0.75, -1.0, -20.0])
    row = _LOGITS.clone()
    _draw(repetition_penalty=2.0, prompt=(0, 3)).change(row)
    assert row.tolist() == pytest.approx([1.0, 1.0, 0.0, -2.0, -30.0])


def test_logprobs_are_the_models_own() -> None:
    """Before temperature and bias, likeliest first."""
    token = choose(_LOGITS[None], [_draw(2, temperature=0, logit_bias=((3, 100.0),))])[0]
    expected = _LOGITS.log_softmax(-1)
    assert token.id == 3
    assert token.logprob == pytest.approx(float(expected[3]))
    assert [identity for identity, _ in token.top] == [0, 1]
    assert math.exp(token.top[0][1]) == pytest.approx(float(expected[0].exp()))
    assert report(_LOGITS, 1, 0).top == ()
