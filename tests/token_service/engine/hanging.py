"""An engine whose forward pass hangs when a prompt begins with token 7: a kernel that never returns."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from token_service.engine.__main__ import leave, main
from token_service.engine.batcher import Batcher

if TYPE_CHECKING:
    import torch

    from token_service.engine.sequence import Sequence

_forward = Batcher._forward  # noqa: SLF001


def _hang(self: Batcher, chosen: list[tuple[Sequence, int]]) -> torch.Tensor:
    if any(sequence.tokens[0] == 7 for sequence, _ in chosen):
        threading.Event().wait()
    return _forward(self, chosen)


if __name__ == "__main__":
    Batcher._forward = _hang  # type: ignore[method-assign]  # noqa: SLF001
    leave(main())
