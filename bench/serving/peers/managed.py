"""transformers' own continuous batching, configured for this machine: `init_continuous_batching` and its manager."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from transformers import ContinuousBatchingConfig, GenerationConfig

from bench.serving.peers import desk

if TYPE_CHECKING:
    from bench.serving.peers.desk import Desk, Ticket

_PAGE = int(os.environ.get("BENCH_PAGE_SIZE", "32"))
_BLOCKS = int(os.environ.get("BENCH_BLOCKS", "1536"))
"""Room for 32 sequences of 1536 tokens; the default would size the cache from the host's memory."""
_BATCH = int(os.environ.get("BENCH_BATCH_TOKENS", "256"))
"""Tokens of one forward pass, as the service's own default on a CPU."""


def generate(counter: Desk) -> None:
    """Hand every request to the manager as it comes."""
    manager = counter.model.init_continuous_batching(  # type: ignore[operator]
        generation_config=GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=16, do_sample=False, eos_token_id=-1, pad_token_id=0
        ),
        continuous_batching_config=ContinuousBatchingConfig(
            num_blocks=_BLOCKS, page_size=_PAGE, max_batch_tokens=_BATCH
        ),
    )
    manager.start()
    tickets: dict[str, Ticket] = {}
    threading.Thread(target=_admit, args=(counter, manager, tickets), daemon=True).start()
    while True:
        output = manager.get_result(timeout=1)
        ticket = tickets.get(output.request_id) if output is not None else None
        if ticket is None:
            continue
        counter.deliver([(ticket, token) for token in output.generated_tokens[ticket.sent :]])
        if output.is_finished():
            del tickets[output.request_id]
        elif ticket.cancelled:
            del tickets[output.request_id]
            manager.cancel_request(output.request_id)


def _admit(counter: Desk, manager: object, tickets: dict[str, Ticket]) -> None:
    number = 0
    while True:
        ticket = counter.next()
        if ticket is None:
            continue
        number += 1
        tickets[f"ticket-{number}"] = ticket
        manager.add_request(  # type: ignore[attr-defined]
            list(ticket.job.prompt),
            request_id=f"ticket-{number}",
            max_new_tokens=ticket.job.max_tokens,
            streaming=True,
        )


if __name__ == "__main__":
    desk.main(generate)
