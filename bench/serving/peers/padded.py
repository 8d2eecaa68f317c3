"""Static batches: what waits is padded to one length and goes through `generate()` together, to the last one's end."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bench.serving.peers import desk
from bench.serving.peers.batch import run_batch

if TYPE_CHECKING:
    from bench.serving.peers.desk import Desk

_LARGEST = int(os.environ.get("BENCH_LARGEST_BATCH", "32"))
_PATIENCE = 0.02
"""Seconds without a newcomer after which a batch leaves: requests sent together arrive within less."""


def generate(counter: Desk) -> None:
    """Serve batches, each made of what waits when the one before it has ended."""
    while True:
        ticket = counter.next()
        batch = []
        while ticket is not None:
            batch.append(ticket)
            ticket = counter.next(_PATIENCE) if len(batch) < _LARGEST else None
        if batch:
            run_batch(counter, batch)


if __name__ == "__main__":
    desk.main(generate)
