"""The thread that owns the model: admits sequences, runs forward passes over all of them, delivers tokens.

Every pass takes one token of each decoding sequence and, as far as the budget goes, chunks of new prompts. A sequence
joins at the next pass and leaves after its last token; nobody waits for a neighbour to finish.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch

from token_service import metrics
from token_service.engine import sampler
from token_service.engine.layout import Batch, Chunk, plan_runs
from token_service.engine.sequence import Key, Sequence
from token_service.engine.slots import SlotTable
from token_service.protocol import EngineBusy, Job, Sampling, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from token_service.engine.attention import SlotAttention
    from token_service.engine.weights import Weights

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """How much is done at once.

    Attributes:
        max_running: Sequences advanced side by side; the attention has one slot more.
        max_waiting: Sequences held back beyond that.
        max_batch_tokens: Tokens of one pass; raised to `max_running` when it is smaller.
        prefix_cache: Reuse the beginning that two prompts share.
    """

    max_running: int
    max_waiting: int
    max_batch_tokens: int
    prefix_cache: bool


class Batcher:
    """Continuous batching on one model."""

    def __init__(self, weights: Weights, attention: SlotAttention, limits: Limits) -> None:
        self._weights = weights
        self._attention = attention
        self._max_running = limits.max_running
        self._budget = max(limits.max_batch_tokens, limits.max_running)
        self.places = limits.max_running + limits.max_waiting
        self._slots = SlotTable(limits.max_running, weights.context, prefix_cache=limits.prefix_cache)
        self._change = threading.Condition(threading.RLock())
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._cancelled: set[Key] = set()
        self._probes: list[Callable[[], None]] = []
        self._stopping = False
        self._deliver: Callable[[list[tuple[Key, Step]]], None] = lambda _: None
        self._thread: threading.Thread | None = None
        self.last_pass = float("-inf")
        """`time.monotonic()` of the end of the last forward pass."""
        self.pass_began: float | None = None
        """`time.monotonic()` of the beginning of the pass now running; None between passes."""
        labels = (weights.name,)
        self._running_gauge, self._waiting_gauge = metrics.running.labels(*labels), metrics.waiting.labels(*labels)
        self._kv_gauge, self._batch_size = metrics.kv_usage.labels(*labels), metrics.batch_size.labels(*labels)
        self._queue_time, self._overhead = metrics.queue_time.labels(*labels), metrics.step_overhead.labels(*labels)
        self._queries, self._hits = metrics.prefix_queries.labels(*labels), metrics.prefix_hits.labels(*labels)
        self._pass_time = {kind: metrics.step_time.labels(weights.name, kind) for kind in ("decode", "prefill")}

    def start(self, deliver: Callable[[list[tuple[Key, Step]]], None], died: Callable[[], None]) -> None:
        """Start the thread.

        Args:
            deliver: Called in the thread after every pass, with the steps it made.
            died: Called in the thread when it ends for any reason but `stop`.
        """
        self._deliver = deliver
        self._thread = threading.Thread(target=self._run, args=(died,), name="batcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Give up what is running and end the thread."""
        with self._change:
            self._stopping = True
            self._change.notify()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def submit(self, owner: tuple[int, int], jobs: list[Job]) -> None:
        """Queue all of `jobs`, or none.

        Raises:
            EngineBusy: too few places are free.
        """
        with self._change:
            taken = len(self._waiting) + len(self._running) - len(self._cancelled)
            if taken + len(jobs) > self.places:
                raise EngineBusy(1 + len(self._waiting) // max(1, self._max_running))
            self._waiting.extend(Sequence((*owner, index), job, self._weights.eos) for index, job in enumerate(jobs))
            self._change.notify()

    def cancel(self, wanted: Callable[[Key], bool]) -> None:
        """End every sequence whose key is wanted, before the next pass; harmless when there is none."""
        with self._change:
            self._cancelled |= {s.key for s in (*self._waiting, *self._running) if wanted(s.key)}
            self._change.notify()

    def probe(self, answer: Callable[[], None]) -> None:
        """Call `answer` in the thread after a forward pass that begins from now on."""
        with self._change:
            self._probes.append(answer)
            self._change.notify()

    def warm_up(self) -> None:
        """Run every kind of pass once, so that the first request does not pay for it."""
        context = self._weights.context
        rules = (Sampling(temperature=0), Sampling(seed=0), Sampling(seed=0, top_p=0.9))
        prompt = tuple(range(min(24, context - 4, self._weights.vocabulary)))
        for index, rule in enumerate(rules[: self._max_running]):
            self._waiting.append(Sequence((0, 0, index), Job(prompt or (0,), 3, rule), frozenset()))
        while self._waiting or self._running:
            self._admit()
            self._pass()
        self._slots.forget()
        self.last_pass = time.monotonic()

    def _run(self, died: Callable[[], None]) -> None:
        try:
            while self._admit(wait=True):
                began = time.perf_counter()
                seconds = self._pass()
                self._overhead.inc(time.perf_counter() - began - seconds)
        except BaseException:
            _log.exception("the engine failed")
            died()
            raise

    def _admit(self, *, wait: bool = False) -> bool:
        """Drop what was cancelled and fill free slots; return False when the engine stops."""
        with self._change:
            if wait:
                self._change.wait_for(
                    lambda: self._stopping or self._waiting or self._running or self._probes or self._cancelled
                )
            if self._stopping:
                return False
            if self._cancelled:
                self._waiting = deque(s for s in self._waiting if s.key not in self._cancelled)
                for sequence in [s for s in self._running if s.key in self._cancelled]:
                    self._leave(sequence)
                self._cancelled.clear()
            held = deque[Sequence]()
            while self._waiting and len(self._running) < self._max_running:
                sequence = self._waiting.popleft()
                if not self._place(sequence):
                    held.append(sequence)
            self._waiting.extendleft(reversed(held))
        self._count()
        return True

    def _place(self, sequence: Sequence) -> bool:
        job = sequence.job
        place = self._slots.take(job.prompt, reuse=not job.prompt_logprobs)
        if place is None:
            return False
        if place.source is not None:
            self._attention.copy(place.source.number, place.slot.number, place.cached)
        sequence.slot, sequence.cached, sequence.computed = place.slot, place.cached, place.cached
        self._running.append(sequence)
        if sequence.key[0]:  # 0 is the warm-up
            self._queue_time.observe(time.monotonic() - sequence.submitted)
            self._queries.inc(len(job.prompt))
            self._hits.inc(place.cached)
        return True

    def _leave(self, sequence: Sequence) -> None:
        with self._change:
            self._running.remove(sequence)
        self._slots.release(sequence.place)

    def _count(self) -> None:
        self._running_gauge.set(len(self._running))
        self._waiting_gauge.set(len(self._waiting))
        held = sum(sequence.computed for sequence in self._running)
        self._kv_gauge.set(held / (self._max_running * self._weights.context))

    def _choose(self) -> list[tuple[Sequence, int]]:
        """Return sequences and how many tokens of each the next pass computes; the decoding ones come first."""
        decoding = [sequence for sequence in self._running if sequence.decoding]
        decoding.sort(key=lambda sequence: sequence.number)
        chosen = [(sequence, 1) for sequence in decoding]
        budget = self._budget - len(chosen)
        for sequence in self._running:
            if not sequence.decoding and budget > 0:
                size = min(sequence.left, budget)
                chosen.append((sequence, size))
                budget -= size
        return chosen

    def _pass(self) -> float:
        """Make one forward pass and deliver what came of it; return its seconds."""
        with self._change:
            probes, self._probes = self._probes, []
        chosen = self._choose()
        if not chosen and not probes:
            return 0.0
        self.pass_began = time.monotonic()
        began = time.perf_counter()
        logits = self._forward(chosen)
        seconds = time.perf_counter() - began
        steps = self._conclude(chosen, logits)
        self.last_pass, self.pass_began = time.monotonic(), None
        if chosen and self._thread is not None:  # the warm-up is nobody's request
            self._batch_size.observe(len(chosen))
            kind = "decode" if chosen[-1][0].decoding and chosen[-1][1] == 1 else "prefill"
            self._pass_time[kind].observe(seconds)
        if steps:
            self._deliver(steps)
            for sequence in [sequence for sequence, _ in chosen if sequence.ended]:
                self._leave(sequence)
            self._count()
        for answer in probes:
            answer()
        return seconds

    def _forward(self, chosen: list[tuple[Sequence, int]]) -> torch.Tensor:
        """Return the logits that `_conclude` needs, shape (rows, vocabulary), finished on the device."""
        ids: list[int] = []
        slots: list[int] = []
        positions: list[int] = []
        wanted: list[int] = []
        chunks: list[Chunk] = []
        lengths: list[int] = []
        for sequence, size in chosen:
            slot, done = sequence.number, sequence.computed
            if sequence.decoding:
                lengths.append(done + 1)
            else:
                chunks.append(Chunk(slot, len(ids), size, done))
            wanted += sequence.wanted_rows(len(ids), size)
            ids += sequence.tokens[done : done + size]
            slots += [slot] * size
            positions += range(done, done + size)
        if not chosen:  # only a probe: one token in the slot that no sequence uses
            ids, slots, positions, wanted, lengths = [0], [self._max_running], [0], [0], [1]
        device = self._weights.network.device
        ids_, slots_, positions_, wanted_ = (
            torch.tensor(many, dtype=torch.long, device=device) for many in (ids, slots, positions, wanted)
        )
        decoding = len(lengths)
        runs = plan_runs(slots[:decoding], lengths, device)
        self._attention.batch = Batch(slots_, positions_, decoding, runs, chunks)
        with torch.inference_mode():
            output = self._weights.network(
                input_ids=ids_[None], position_ids=positions_[None], use_cache=False, logits_to_keep=wanted_
            )
        logits = cast("torch.Tensor", output.logits)[0]
        if logits.device.type == "cuda":
            torch.cuda.synchronize(logits.device)
        return logits

    def _conclude(self, chosen: list[tuple[Sequence, int]], logits: torch.Tensor) -> list[tuple[Key, Step]]:
        """Choose tokens, note what has been computed, and return the steps to deliver."""
        row = 0
        sampled: list[tuple[Sequence, int]] = []
        steps: list[tuple[Key, Step]] = []
        for sequence, size in chosen:
            rows = len(sequence.wanted_rows(0, size))
            if sequence.job.prompt_logprobs and not sequence.decoding:
                sequence.note_prompt(logits[row : row + rows])
            self._slots.fill(sequence.place, sequence.tokens[sequence.computed : sequence.computed + size])
            sequence.computed += size
            row += rows
            if not sequence.left:
                if sequence.job.max_tokens:
                    sampled.append((sequence, row - 1))
                else:
                    steps.append((sequence.key, sequence.end()))
        sampled, broken = self._sound(sampled, logits)
        steps += [(sequence.key, sequence.fail()) for sequence in broken]
        if sampled:
            picked = logits if len(sampled) == len(logits) else logits[[index for _, index in sampled]]
            with torch.inference_mode():
                tokens = sampler.choose(picked, [sequence.draw for sequence, _ in sampled])
            steps += [(sequence.key, sequence.add(token)) for (sequence, _), token in zip(sampled, tokens, strict=True)]
        return steps

    def _sound(
        self, sampled: list[tuple[Sequence, int]], logits: torch.Tensor
    ) -> tuple[list[tuple[Sequence, int]], list[Sequence]]:
        """Part sequences whose logits are numbers from those to give up: an overflow must not end its neighbours."""
        sound = logits.sum(-1).isfinite().tolist()
        broken = [sequence for sequence, row in sampled if not sound[row]]
        for sequence in broken:
            _log.error("logits that are no numbers", extra={"prompt_tokens": len(sequence.job.prompt)})
            self._attention.clear(sequence.number)
            self._slots.spoil(sequence.place)
        return [(sequence, row) for sequence, row in sampled if sound[row]], broken
