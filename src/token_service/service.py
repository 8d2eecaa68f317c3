"""What the routes share: the model, its engine and the state of one worker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from token_service.engine import Engine, EngineBusy, EngineFailed, Stream
from token_service.model import Model, PromptError
from token_service.refusals import Refusal
from token_service.sampling import SamplingParameters
from token_service.schemas import ChatRequest, CompletionRequest
from token_service.sequence import Job, Piece

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import Request

    from token_service.settings import Settings


@dataclass
class Service:
    """One worker's model and engine.

    Attributes:
        draining: SIGTERM arrived; readiness says no, requests are still served.
    """

    settings: Settings
    model: Model
    engine: Engine
    draining: bool = False

    def check_model(self, name: str) -> None:
        """Refuse a model that is not served here.

        Raises:
            Refusal: 404.
        """
        if name != self.model.name:
            raise Refusal(
                404,
                f"model {name!r} does not exist; this service has {self.model.name!r}",
                param="model",
                code="model_not_found",
            )

    async def submit(self, request: CompletionRequest | ChatRequest) -> Stream:
        """Check a request against the model and queue it.

        Raises:
            Refusal: 400 when the prompt cannot be used, 404 for another model, 429 when all places are taken.
        """
        self.check_model(request.model)
        prompt = await self._encode(request)
        job = Job(
            prompt=tuple(prompt),
            max_tokens=self._limit(len(prompt), request.limit),
            sampling=SamplingParameters(request.temperature, request.top_p, request.top_k, request.seed),
            stops=request.stops,
        )
        try:
            return self.engine.submit(job)
        except EngineBusy:
            raise Refusal(
                429, "all places are taken; try again", code="engine_overloaded", headers={"Retry-After": "1"}
            ) from None
        except EngineFailed as error:
            raise Refusal(503, str(error), code="engine_failed", headers={"Retry-After": "5"}) from None

    async def _encode(self, request: CompletionRequest | ChatRequest) -> Sequence[int]:
        """Tokenise off the event loop: a prompt of a megabyte takes a second."""
        try:
            if isinstance(request, CompletionRequest):
                return await run_in_threadpool(self.model.encode, request.prompt)
            return await run_in_threadpool(self.model.encode_chat, [turn.rendered() for turn in request.messages])
        except PromptError as error:
            param = "prompt" if isinstance(request, CompletionRequest) else "messages"
            raise Refusal(400, str(error), param=param) from None

    def _limit(self, prompt: int, asked: int | None) -> int:
        """Return how many tokens to generate, or refuse what does not fit the context."""
        room = self.model.context - prompt
        if room < 1 or (asked is not None and asked > room):
            wanted = f"{prompt} prompt tokens" + (f" + {asked} to generate" if asked else "")
            raise Refusal(
                400,
                f"{wanted} exceed this model's context of {self.model.context} tokens",
                param="prompt" if room < 1 else "max_tokens",
                code="context_length_exceeded",
            )
        return room if asked is None else asked


async def collect(request: Request, stream: Stream) -> list[Piece]:
    """Return all pieces of a stream; stop generating when the client goes away first.

    Raises:
        Refusal: 500 when the engine fails; 499 (which nobody reads) when the client has gone.
    """

    async def pieces() -> list[Piece]:
        return [piece async for piece in stream]

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    work, watch = asyncio.create_task(pieces()), asyncio.create_task(gone())
    try:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise Refusal(499, "the client closed the connection")
        return work.result()
    except EngineFailed as error:
        raise Refusal(500, str(error), code="engine_failed") from None
    finally:
        stream.cancel()
        work.cancel()
        watch.cancel()
