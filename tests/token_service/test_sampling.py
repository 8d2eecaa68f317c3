"""Sampling: greedy, bounded and repeatable."""

from __future__ import annotations

import torch

from token_service.sampling import Sampler, SamplingParameters

_LOGITS = torch.tensor([1.0, 3.0, 2.0, 2.5])


def _draws(count: int = 60, **parameters: float) -> list[int]:
    sampler = Sampler(SamplingParameters(**parameters))  # type: ignore[arg-type]
    return [sampler.choose(_LOGITS) for _ in range(count)]


def test_temperature_zero_takes_the_most_likely() -> None:
    """Whatever top_p and top_k say."""
    assert set(_draws(temperature=0, top_p=0.1, top_k=3)) == {1}


def test_top_k_bounds_the_choice() -> None:
    """With two allowed tokens, both and only they appear."""
    assert set(_draws(top_k=2)) == {1, 3}


def test_small_top_p_leaves_one_token() -> None:
    """The most likely token alone already has this mass."""
    assert set(_draws(top_p=0.01)) == {1}


def test_seed_repeats_and_differs() -> None:
    """The same seed gives the same draws, another seed others."""
    assert _draws(seed=7) == _draws(seed=7) != _draws(seed=8)


def test_no_seed_draws_anew() -> None:
    """Two unseeded samplers do not agree on sixty draws."""
    assert _draws() != _draws()


def test_tiny_temperature_stays_finite() -> None:
    """Dividing by almost nothing must not produce NaN probabilities."""
    assert set(_draws(temperature=1e-30)) == {1}
