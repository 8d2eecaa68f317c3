"""Sequences together give what each gives alone, and leave when they should."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import AutoModelForCausalLM

from token_service.engine.batcher import Batcher
from token_service.protocol import EngineBusy, Job, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.token_service.engine.conftest import Runner
    from token_service.engine.sequence import Sequence

_GREEDY = Sampling(temperature=0)


def _prompt(size: int, start: int) -> tuple[int, ...]:
    return tuple(5 + (start * 97 + index * 31) % 1400 for index in range(size))


@pytest.fixture(scope="module")
def network(demo: Path) -> torch.nn.Module:
    """The same weights behind transformers' own attention and generation."""
    return AutoModelForCausalLM.from_pretrained(demo, dtype=torch.float32)


def _generate(network: torch.nn.Module, prompt: tuple[int, ...], count: int) -> list[int]:
    ids = torch.tensor([prompt])
    out = network.generate(ids, max_new_tokens=count, do_sample=False)  # type: ignore[operator]
    return out[0, len(prompt) :].tolist()  # type: ignore[no-any-return]


def test_greedy_equals_generate_alone_and_together(runner: Runner, network: torch.nn.Module) -> None:
    """Prompts of many lengths, one longer than a pass takes at once."""
    prompts = [_prompt(size, size) for size in (1, 2, 17, 60, 300, 5)]
    expected = [_generate(network, prompt, 20) for prompt in prompts]
    assert [runner.tokens(Job(prompt, 20))[0] for prompt in prompts] == expected
    assert runner.tokens(*(Job(prompt, 20) for prompt in prompts)) == expected


def test_prefix_cache_changes_nothing_but_the_work(
    runner: Runner, make_runner: Callable[..., Runner], demo: Path
) -> None:
    """A conversation that grows, and branches of it at once, equal an engine without the cache."""
    plain = make_runner(demo, PREFIX_CACHE="false")
    base = _prompt(120, 3)
    turns = [base, base + _prompt(9, 4), base + _prompt(9, 4) + _prompt(30, 5)]
    for turn in turns:
        assert runner.tokens(Job(turn, 12)) == plain.tokens(Job(turn, 12))
    branches = [Job(base + _prompt(5, start), 12) for start in range(8)]
    keys = runner.submit(*branches)
    steps = runner.finish(keys)
    assert all(step[0].cached >= len(base) for step in steps)
    assert [[t.id for s in many for t in s.tokens] for many in steps] == [plain.tokens(job)[0] for job in branches]


def test_choices_of_one_prompt_compute_it_once(runner: Runner) -> None:
    """Equal prompts submitted together: the later ones wait for the first and take all but one token from it."""
    prompt = _prompt(90, 11)
    steps = runner.finish(runner.submit(*(Job(prompt, 4, Sampling(seed=index)) for index in range(4))))
    assert sorted(many[0].cached for many in steps)[1:] == [len(prompt) - 1] * 3


def test_seed_reproduces_among_others(runner: Runner) -> None:
    """A sampled sequence is the same alone and beside neighbours with other rules."""
    job = Job(_prompt(20, 6), 16, Sampling(temperature=1.3, top_p=0.95, seed=11))
    alone = runner.tokens(job)[0]
    others = [Job(_prompt(20, start), 16, Sampling(temperature=2.0, top_k=start + 1)) for start in range(5)]
    assert runner.tokens(*others, job)[-1] == alone
    assert runner.tokens(Job(job.prompt, 16, Sampling(temperature=1.3, top_p=0.95, seed=12)))[0] != alone


def test_logprobs_of_prompt_and_answer(runner: Runner, network: torch.nn.Module) -> None:
    """Both equal the log softmax of one plain forward pass over the whole sequence."""
    prompt = _prompt(40, 8)
    (steps,) = runner.finish(runner.submit(Job(prompt, 5, _GREEDY, 2, prompt_logprobs=True)))
    answer = [token for step in steps for token in step.tokens]
    whole = torch.tensor([*prompt, *(token.id for token in answer)])
    with torch.inference_mode():
        expected = network(whole[None]).logits[0].log_softmax(-1)
    reported = [*steps[0].prompt, *answer]
    assert [token.id for token in reported] == whole.tolist()
    assert reported[0].logprob is None
    for position, token in enumerate(reported[1:]):
        assert token.logprob == pytest.approx(float(expected[position, token.id]), abs=1e-4)
        assert token.top[0][1] == pytest.approx(float(expected[position].max()), abs=1e-4)
    assert all(not step.prompt for step in steps[1:])


def test_prompt_alone_can_be_scored(runner: Runner) -> None:
    """max_tokens 0 with prompt log probabilities ends after the prompt, also when it takes several passes."""
    prompt = _prompt(400, 9)
    (steps,) = runner.finish(runner.submit(Job(prompt, 0, _GREEDY, 0, prompt_logprobs=True)))
    assert [(step.finish, step.tokens, len(step.prompt)) for step in steps] == [("length", (), 400)]


def test_full_queue_refuses_all_or_nothing(runner: Runner) -> None:
    """Sixteen places: ten long ones and seven more do not fit, and none of the seven is queued."""
    keys = runner.submit(*(Job(_prompt(8, start), 900, Sampling(seed=start)) for start in range(10)))
    with pytest.raises(EngineBusy) as refused:
        runner.submit(*(Job(_prompt(8, start), 4) for start in range(7)))
    assert refused.value.retry_after >= 1
    runner.batcher.cancel(lambda key: key in keys)
    assert len(runner.tokens(*(Job(_prompt(8, start), 4) for start in range(16)))) == 16


def test_cancelled_sequence_gives_its_place_to_the_next(runner: Runner) -> None:
    """Eight endless ones fill the slots; a ninth runs as soon as one of them is cancelled, and the rest go on."""
    keys = runner.submit(
        *(Job(_prompt(8, start), 1000, Sampling(seed=start, logit_bias=((2, -100.0),))) for start in range(8))
    )
    runner.wait(lambda: all(runner.steps(key) for key in keys))
    (ninth,) = runner.submit(Job(_prompt(8, 50), 3))
    runner.batcher.cancel(lambda key: key == keys[0])
    runner.finish([ninth])
    seen = len(runner.steps(keys[1]))
    runner.wait(lambda: len(runner.steps(keys[1])) > seen)
    stopped = len(runner.steps(keys[0]))
    runner.batcher.cancel(lambda key: key in keys)
    assert len(runner.tokens(Job(_prompt(8, 1), 3))[0]) <= 3
    assert len(runner.steps(keys[0])) == stopped


def test_probe_makes_a_forward_pass(runner: Runner) -> None:
    """Also with nothing to do, and it disturbs nobody: the answer comes after a pass that is newer."""
    before, passed = runner.batcher.last_pass, threading.Event()
    runner.batcher.probe(passed.set)
    assert passed.wait(10)
    assert runner.batcher.last_pass > before


def test_sequence_without_numbers_ends_alone(
    runner: Runner, network: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits that overflow give up their own sequence; its neighbour goes on, and its slot is clean afterwards."""
    forward = Batcher._forward  # noqa: SLF001

    def overflow(self: Batcher, chosen: list[tuple[Sequence, int]]) -> torch.Tensor:
        logits = forward(self, chosen).clone()
        for row, (sequence, _) in enumerate(chosen):
            if sequence.tokens[0] == 77:
                logits[row] = float("nan")
                for cache in (self._attention.keys, self._attention.values):
                    for layer in cache.values():
                        layer[sequence.number] = float("nan")
        return logits

    monkeypatch.setattr(Batcher, "_forward", overflow)
    prompt = _prompt(30, 21)
    good, bad = runner.finish(runner.submit(Job(prompt, 6), Job((77,), 6, Sampling(seed=1))))
    assert [step.finish for step in bad] == ["error"]
    assert [token.id for step in good for token in step.tokens] == _generate(network, prompt, 6)
    prompts = [_prompt(10, start) for start in range(30, 38)]  # every slot is used once
    assert runner.tokens(*(Job(one, 5) for one in prompts)) == [_generate(network, one, 5) for one in prompts]


def test_failing_pass_is_reported(
    make_runner: Callable[..., Runner], demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine whose forward pass fails says that it died, instead of waiting for ever."""
    runner = make_runner(demo, MAX_RUNNING="1")
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def fail(*_: object) -> torch.Tensor:
        raise RuntimeError("a broken kernel")

    monkeypatch.setattr(Batcher, "_forward", fail)
    runner.submit(Job((5, 6), 2))
    assert runner.died.wait(10)
