"""What stands where the service's batcher stands: takes jobs, hands tokens back; generating is left to a peer.

The process around it, its socket and all that is in front of it are the service's own.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from token_service import manifest, settings
from token_service.engine import process
from token_service.protocol import Hello, Job, Step, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from token_service.engine.batcher import Batcher

    Key = tuple[int, int, int]
    Deliver = Callable[[list[tuple[Key, Step]]], None]
    Generate = Callable[["Desk"], None]

_PLACES = 4096
"""Peers are never busy: what waits is part of what is measured."""


@dataclass
class Ticket:
    """One job on its way.

    Attributes:
        job: What to generate.
        key: Connection, request and index, as the process counts.
        sent: Tokens delivered so far.
        cancelled: Nobody waits for it any more.
    """

    job: Job
    key: Key
    sent: int = 0
    cancelled: bool = False


class Desk:
    """Jobs in, tokens out; `next` and `deliver` are called in the generating thread, the rest by the process.

    Attributes:
        model: The network, loaded as any program loads it.
        last_pass: `time.monotonic()` of the last delivery.
        pass_began: Always None: peers have no watchdog.
    """

    def __init__(self, model: PreTrainedModel, generate: Generate) -> None:
        self.model = model
        self.last_pass = time.monotonic()
        self.pass_began: float | None = None
        self._generate = generate
        self._waiting: queue.SimpleQueue[Ticket] = queue.SimpleQueue()
        self._tickets: dict[Key, Ticket] = {}
        self._guard = threading.Lock()
        self._deliver: Deliver = lambda _: None

    def start(self, deliver: Deliver, died: Callable[[], None]) -> None:
        """Generate in a thread of its own."""
        self._deliver = deliver

        def run() -> None:
            try:
                self._generate(self)
            finally:
                died()

        threading.Thread(target=run, daemon=True).start()

    def stop(self) -> None:
        """Nothing to wait for: the thread ends with the process."""

    def submit(self, owner: tuple[int, int], jobs: Sequence[Job]) -> None:
        """Queue jobs."""
        for index, job in enumerate(jobs):
            ticket = Ticket(job, (*owner, index))
            with self._guard:
                self._tickets[ticket.key] = ticket
            self._waiting.put(ticket)

    def cancel(self, wanted: Callable[[Key], bool]) -> None:
        """Mark what nobody waits for."""
        with self._guard:
            for key in [key for key in self._tickets if wanted(key)]:
                self._tickets.pop(key).cancelled = True

    def probe(self, done: Callable[[], None]) -> None:
        """Say yes."""
        done()

    def next(self, patience: float | None = None) -> Ticket | None:
        """Return the next ticket that is still wanted; None when none came within `patience` seconds."""
        while True:
            try:
                ticket = self._waiting.get(timeout=patience)
            except queue.Empty:
                return None
            if not ticket.cancelled:
                return ticket

    def deliver(self, tokens: Sequence[tuple[Ticket, int]]) -> None:
        """Hand over one new token for each ticket, the last one with its finish reason."""
        self.last_pass = time.monotonic()
        steps = []
        for ticket, token in tokens:
            ticket.sent += 1
            ended = ticket.sent == ticket.job.max_tokens
            steps.append((ticket.key, Step((Token(token),), "length" if ended else None)))
            if ended:
                with self._guard:
                    self._tickets.pop(ticket.key, None)
        self._deliver(steps)


def main(generate: Generate) -> None:
    """Be an engine process whose sequences `generate` advances; it runs in a thread and never returns."""
    name, pulse = sys.argv[1], int(sys.argv[2])
    os.set_blocking(pulse, False)
    config = settings.read()
    source = next(one for one in config.models if one.name == name)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.set_num_threads(config.threads)
    model = AutoModelForCausalLM.from_pretrained(source.folder, dtype=torch.float32, attn_implementation="sdpa")
    model.eval()  # type: ignore[no-untyped-call]
    with torch.inference_mode():  # the first product makes torch start its threads
        model(torch.zeros((1, 8), dtype=torch.long))
    hello = Hello(
        model=name,
        context=int(model.config.max_position_embeddings),
        vocabulary=int(model.config.vocab_size),
        places=_PLACES,
        created=int(source.folder.stat().st_mtime),
        sha256=manifest.fingerprint(source.folder),
    )
    desk = cast("Batcher", Desk(model, generate))
    status = asyncio.run(process.Process(config, desk, hello, pulse).run())
    os._exit(status)  # the generating thread may be deep in torch
