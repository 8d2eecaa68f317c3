"""The engine on the real demo model."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

import pytest
import torch

from token_service.engine import Engine, EngineBusy, EngineFailed
from token_service.sampling import SamplingParameters
from token_service.sequence import Job, Sequence

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from token_service.engine import Stream
    from token_service.model import Model

_T = TypeVar("_T")


@pytest.fixture
def engine(model: Model) -> Iterator[Engine]:
    """A started engine with two slots and one waiting place."""
    engine = Engine(model, max_running=2, max_waiting=1)
    engine.start()
    yield engine
    engine.stop()


def _run(work: Coroutine[object, object, _T]) -> _T:
    async def bounded() -> _T:
        async with asyncio.timeout(60):
            return await work

    return asyncio.run(bounded())


async def _text(stream: Stream) -> str:
    return "".join([piece.text async for piece in stream])


def _job(model: Model, tokens: int = 40, prompt: str = "The statement") -> Job:
    return Job(tuple(model.encode(prompt)), tokens)


def test_greedy_text_equals_generate(model: Model, engine: Engine) -> None:
    """Token by token with a cache gives what `generate()` gives."""

    async def work() -> str:
        return await _text(engine.submit(_job(model)))

    with torch.inference_mode():
        ids = torch.tensor([model.encode("The statement")])
        expected = model.network.generate(ids, max_new_tokens=40, do_sample=False)[0, ids.shape[1] :]  # type: ignore[operator]
    assert _run(work()) == model.core.decode(expected.tolist(), skip_special_tokens=True)


def test_neighbours_do_not_change_a_seeded_sequence(model: Model, engine: Engine) -> None:
    """Alone or in company, a seed gives the same text."""
    job = Job(_job(model).prompt, 30, SamplingParameters(seed=5))

    async def work() -> list[str]:
        alone = await _text(engine.submit(job))
        pair = [engine.submit(_job(model, 30, "Another")), engine.submit(job)]
        return [alone, (await asyncio.gather(*map(_text, pair)))[1]]

    alone, accompanied = _run(work())
    assert alone == accompanied


def test_full_engine_refuses_and_recovers(model: Model, engine: Engine) -> None:
    """Two running and one waiting: the fourth is refused; a vanished client makes room at once."""

    async def work() -> str:
        streams = [engine.submit(_job(model, 900)) for _ in range(3)]
        with pytest.raises(EngineBusy):
            engine.submit(_job(model))
        for stream in streams:
            stream.cancel()
        return await _text(engine.submit(_job(model, 3)))

    assert _run(work())


def test_failing_sequence_leaves_its_neighbours_alone(
    model: Model, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception in one step ends that stream with an error; the engine lives on."""
    real = Sequence.step

    def step(self: Sequence) -> object:
        if self._job.max_tokens == 13:
            raise RuntimeError("out of memory")
        return real(self)

    monkeypatch.setattr(Sequence, "step", step)

    async def work() -> str:
        good, bad = engine.submit(_job(model, 20)), engine.submit(_job(model, 13))
        with pytest.raises(EngineFailed):
            await _text(bad)
        return await _text(good)

    assert _run(work())
    assert engine.alive


def test_probe_makes_a_forward_pass(model: Model, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a recent pass the probe runs one; it says no when passes fail."""

    async def work() -> list[bool]:
        answers = [await engine.probe(0)]
        monkeypatch.setattr(model.network, "forward", None)
        answers.append(await engine.probe(3600))  # the pass just made still counts
        answers.append(await engine.probe(0))
        return answers

    assert _run(work()) == [True, True, False]


def test_stopped_engine_says_so(model: Model, engine: Engine) -> None:
    """Streams end with an error instead of waiting for ever; new ones are refused."""

    async def work() -> bool:
        stream = engine.submit(_job(model, 900))
        await asyncio.to_thread(engine.stop)
        with pytest.raises(EngineFailed):
            await _text(stream)
        with pytest.raises(EngineFailed):
            engine.submit(_job(model))
        return await engine.probe(3600)

    assert _run(work()) is False
    assert not engine.alive
