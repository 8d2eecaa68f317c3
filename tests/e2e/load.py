"""A steady load of streaming requests in the background, counted by outcome."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import httpx

if TYPE_CHECKING:
    from types import TracebackType

_REQUEST_LIMIT = 5000


@dataclass
class Load:
    """Runs `clients` streams side by side until the block ends; every stream must reach `[DONE]`."""

    url: str
    key: str
    clients: int = 4
    done: int = 0
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ending = threading.Event()
        self._guard = threading.Lock()
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(self.clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def _client(self) -> None:
        for _ in range(_REQUEST_LIMIT):
            if self._ending.is_set():
                return
            failure = self._stream_once()
            with self._guard:
                self.done += not failure
                if failure:
                    self.failures.append(failure)

    def _stream_once(self) -> str:
        """Run one stream; return what went wrong, or nothing."""
        body = {"model": "demo", "prompt": "The value of", "max_tokens": 24, "stream": True}
        headers = {"Authorization": f"Bearer {self.key}"}
        try:
            with httpx.stream("POST", f"{self.url}/v1/completions", json=body, headers=headers, timeout=60) as answer:
                text = answer.read().decode()
        except httpx.HTTPError as error:
            return repr(error)
        if answer.status_code != httpx.codes.OK:
            return f"{answer.status_code}: {text[:200]}"
        return "" if text.rstrip().endswith("data: [DONE]") else f"cut: ...{text[-200:]}"
