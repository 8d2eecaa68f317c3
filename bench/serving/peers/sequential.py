"""One request at a time through `generate()` with a streamer: what a service without batching does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.serving.peers import desk
from bench.serving.peers.batch import run_batch

if TYPE_CHECKING:
    from bench.serving.peers.desk import Desk


def generate(counter: Desk) -> None:
    """Serve requests in the order in which they came."""
    while True:
        ticket = counter.next()
        if ticket is not None:
            run_batch(counter, [ticket])


if __name__ == "__main__":
    desk.main(generate)
