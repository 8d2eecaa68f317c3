"""What the routes share: the models, their engines and the state of one worker."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from token_service.generation import DeadlineExceeded, Generation, Plan
from token_service.protocol import EngineBusy, EngineFailed, Hello, Job
from token_service.refusals import Refusal
from token_service.schemas import ChatRequest, CompletionRequest
from token_service.tokenizer import PromptError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import Request

    from token_service.client import EngineClient
    from token_service.settings import Settings
    from token_service.tokenizer import ModelTokenizer


@dataclass(frozen=True)
class Served:
    """A model and the way to its engine."""

    tokenizer: ModelTokenizer
    engine: EngineClient

    async def hello(self) -> Hello:
        """Return what the engine said of its model.

        Raises:
            Refusal: 503 when the engine is not there.
        """
        await self.engine.arrive()
        if self.engine.hello is None:
            state = "is loading" if self.engine.alive else "has no engine at the moment"
            raise _unavailable(f"model {self.engine.model} {state}")
        return self.engine.hello


@dataclass
class Service:
    """One worker's models.

    Attributes:
        draining: SIGTERM arrived; readiness says no, requests are still served.
    """

    settings: Settings
    models: Mapping[str, Served]
    draining: bool = False

    def model(self, name: str | None) -> Served:
        """Return a model; without a name the only one.

        Raises:
            Refusal: 404 when it is not served here, 400 when several are and none is named.
        """
        if name is None:
            if len(self.models) > 1:
                raise Refusal(400, f"model is required: one of {', '.join(self.models)}", param="model")
            return next(iter(self.models.values()))
        if name not in self.models:
            raise Refusal(
                404,
                f"model {name[:100]!r} does not exist; this service has {', '.join(self.models)}",
                param="model",
                code="model_not_found",
            )
        return self.models[name]

    async def begin(self, request: CompletionRequest | ChatRequest, arrived: float) -> Generation:
        """Check a request against the model and queue it.

        Raises:
            Refusal: 400 when it does not fit the model, 404 for another model, 429 when all places are taken, 503
                while the engine is not there.
        """
        served = self.model(request.model)
        hello = await served.hello()
        _check(request, hello)
        prompts, echoes = await _encode(request, served)
        jobs, plans = [], []
        for prompt, echo in zip(prompts, echoes, strict=True):
            within_vocabulary(prompt, hello, "prompt")
            limit = _limit(len(prompt), request.limit, hello.context)
            for choice in range(request.choices):
                jobs.append(
                    Job(
                        prompt=tuple(prompt),
                        max_tokens=limit,
                        sampling=request.sampling(choice),
                        # An engine has nothing to do for no token and no probability.
                        logprobs=0 if limit == 0 and request.top is None else request.top,
                        prompt_logprobs=limit == 0 or (echo is not None and request.top is not None),
                    )
                )
                plans.append(Plan(request.stops, request.top is not None, echo, first_of_prompt=choice == 0))
        try:
            streams = await served.engine.submit(jobs)
        except EngineBusy as busy:
            raise Refusal(
                429,
                "all places are taken; try again",
                code="engine_overloaded",
                headers={"Retry-After": str(busy.retry_after)},
            ) from None
        except EngineFailed as error:
            raise _unavailable(str(error)) from None
        return Generation(served.tokenizer, streams, plans, arrived, self.settings.request_timeout)


def within_vocabulary(tokens: Sequence[int], hello: Hello, param: str) -> None:
    """Refuse token ids that the model does not have.

    Raises:
        Refusal: 400.
    """
    if tokens and max(tokens) >= hello.vocabulary:
        raise Refusal(
            400, f"token id {max(tokens)} is outside this model's vocabulary of {hello.vocabulary}", param=param
        )


def _unavailable(message: str) -> Refusal:
    return Refusal(503, message, code="engine_unavailable", headers={"Retry-After": "5"})


def _check(request: CompletionRequest | ChatRequest, hello: Hello) -> None:
    prompts = len(request.prompts) if isinstance(request, CompletionRequest) else 1
    if (wanted := prompts * request.choices) > hello.places:
        raise Refusal(400, f"{wanted} choices in one request; this service has {hello.places} places", param="n")
    wrong = next((token for token in request.logit_bias or () if int(token) >= hello.vocabulary), None)
    if wrong is not None:
        raise Refusal(400, f"logit_bias: token id {wrong} is outside the vocabulary", param="logit_bias")


async def _encode(
    request: CompletionRequest | ChatRequest, served: Served
) -> tuple[Sequence[Sequence[int]], Sequence[str | None]]:
    """Return each prompt's tokens, and its text where the answer begins with it."""
    tokenizer = served.tokenizer
    if isinstance(request, ChatRequest):
        try:
            return [_filled(await tokenizer.encode_chat([turn.rendered() for turn in request.messages]))], [None]
        except PromptError as error:
            raise Refusal(400, str(error), param="messages") from None
    tokens, texts = [], []
    for prompt in request.prompts:
        tokens.append(_filled(await tokenizer.encode(prompt)) if isinstance(prompt, str) else prompt)
        text = prompt if isinstance(prompt, str) else tokenizer.decode(prompt) if request.echo else ""
        texts.append(text if request.echo else None)
    return tokens, texts


def _filled(tokens: list[int]) -> list[int]:
    if not tokens:
        raise Refusal(400, "the prompt is empty", param="prompt")
    return tokens


def _limit(prompt: int, asked: int | None, context: int) -> int:
    """Return how many tokens to generate, or refuse what does not fit the context."""
    room = context - prompt
    if room < (asked if asked is not None else 1):
        wanted = f"{prompt} prompt tokens" + (f" + {asked} to generate" if asked else "")
        raise Refusal(
            400,
            f"{wanted} exceed this model's context of {context} tokens",
            param="prompt" if room < 1 else "max_tokens",
            code="context_length_exceeded",
        )
    return room if asked is None else asked


async def collect(request: Request, generation: Generation) -> None:
    """Generate everything; stop when the client goes away first.

    Raises:
        Refusal: 500 when the engine fails, 504 when time is up, 499 (which nobody reads) when the client has gone.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    work, watch = asyncio.create_task(generation.run()), asyncio.create_task(gone())
    try:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise Refusal(499, "the client closed the connection")
        work.result()
    except EngineFailed as error:
        raise Refusal(500, str(error), code="engine_failed") from None
    except DeadlineExceeded as error:
        raise Refusal(504, str(error), code="deadline_exceeded") from None
    finally:
        generation.close()
        for task in (work, watch):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, EngineFailed, DeadlineExceeded):
                await task
