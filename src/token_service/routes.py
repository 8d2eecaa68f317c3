"""The HTTP routes that generate and tokenise."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from sse_starlette import EventSourceResponse
from starlette.responses import Response  # noqa: TC002 - FastAPI reads the annotation

from token_service import shapes
from token_service.answers import Answer, ChatAnswer, CompletionAnswer
from token_service.gate import NOTES
from token_service.generation import DeadlineExceeded, Generation
from token_service.health import Current, json
from token_service.protocol import EngineFailed
from token_service.refusals import Refusal
from token_service.schemas import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    TokenizeRequest,
)
from token_service.service import Service, collect, within_vocabulary
from token_service.tokenizer import PromptError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

_prompts = logging.getLogger("token_service.prompts")


class _JsonRequest(Request):
    """Reads JSON as RFC 8259 has it: UTF-8, no NaN, no lone surrogates, a bounded depth; a double key's last one."""

    async def json(self) -> Any:  # noqa: ANN401 - starlette's signature
        return orjson.loads(await self.body())


class _JsonRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(_JsonRequest(request.scope, request.receive))

        return handle


router = APIRouter(route_class=_JsonRoute)
_FAILURES = (400, 401, 404, 408, 413, 429, 500, 503, 504)


@router.post(
    "/v1/chat/completions",
    response_model=None,
    tags=["generation"],
    responses=shapes.described(shapes.ChatCompletion, *_FAILURES, streamed=True),
)
async def chat_completions(body: ChatRequest, request: Request, service: Current) -> Response:
    """Answer a conversation."""
    return await _respond(body, request, service)


@router.post(
    "/v1/completions",
    response_model=None,
    tags=["generation"],
    responses=shapes.described(shapes.Completion, *_FAILURES, streamed=True),
)
async def completions(body: CompletionRequest, request: Request, service: Current) -> Response:
    """Continue one prompt or several."""
    return await _respond(body, request, service)


@router.post(
    "/tokenize",
    response_model=None,
    tags=["tokens"],
    responses=shapes.described(shapes.Tokens, 400, 401, 404, 408, 413, 503),
)
async def tokenize(body: TokenizeRequest, service: Current) -> Response:
    """Show the tokens of a prompt, or of a conversation as the chat template renders it."""
    served = service.model(body.model)
    hello = await served.hello()
    try:
        if body.messages is not None:
            turns = [turn.rendered() for turn in body.messages]
            tokens = await served.tokenizer.encode_chat(
                turns, generation_prompt=body.add_generation_prompt is not False
            )
        else:
            tokens = await served.tokenizer.encode(body.prompt or "", special=body.add_special_tokens is not False)
    except PromptError as error:
        raise Refusal(400, str(error), param="messages") from None
    spelt = [served.tokenizer.core.id_to_token(token) for token in tokens] if body.return_token_strs else None
    return json({"count": len(tokens), "max_model_len": hello.context, "tokens": tokens, "token_strs": spelt})


@router.post(
    "/detokenize",
    response_model=None,
    tags=["tokens"],
    responses=shapes.described(shapes.Detokenized, 400, 401, 404, 408, 413, 503),
)
async def detokenize(body: DetokenizeRequest, service: Current) -> Response:
    """Show the text of token ids, control tokens included."""
    served = service.model(body.model)
    within_vocabulary(body.tokens, await served.hello(), "tokens")
    return json({"prompt": served.tokenizer.decode(body.tokens, special=True)})


async def _respond(body: ChatRequest | CompletionRequest, request: Request, service: Service) -> Response:
    notes: dict[str, Any] = request.scope[NOTES]
    if service.settings.log_prompts:
        prompt = body.model_dump(include={"messages", "prompt"}, exclude_none=True)
        _prompts.info("prompt", extra={"request_id": notes["request_id"]} | prompt)
    generation = await service.begin(body, time.monotonic())
    notes |= {"model": body.model, "prompt_tokens": generation.prompt_tokens}
    tokenizer = service.model(body.model).tokenizer
    kind = ChatAnswer if isinstance(body, ChatRequest) else CompletionAnswer
    answer = kind(tokenizer, with_logprobs=body.top is not None, with_usage=body.include_usage)

    def note() -> None:
        notes.update(outcome=generation.outcome, completion_tokens=generation.completion_tokens)
        if service.settings.log_prompts:
            texts = [choice.text for choice in generation.choices]
            _prompts.info("answer", extra={"request_id": notes["request_id"], "texts": texts})

    if body.stream:
        return EventSourceResponse(
            _frames(generation, answer, note),
            # A line feed, as OpenAI's servers send: clients that split on "\n\n" by hand exist.
            sep="\n",
            send_timeout=service.settings.send_timeout,
        )
    try:
        await collect(request, generation)
    finally:
        note()
    return json(answer.whole(generation))


async def _frames(generation: Generation, answer: Answer, note: Callable[[], None]) -> AsyncGenerator[bytes]:
    """Yield server-sent events; closing the generator, as a disconnect does, stops the engine's work."""
    try:
        for choice in generation.choices:
            for chunk in answer.opening(choice.index):
                yield _frame(chunk)
        async with contextlib.aclosing(generation.pieces()) as pieces:
            async for choice, piece in pieces:
                if piece.text or piece.entries:
                    yield _frame(answer.chunk(choice.index, piece))
                if choice.finish:
                    yield _frame(answer.last_chunk(choice.index, choice.finish))
        if answer.with_usage:
            yield _frame(answer.usage_chunk(generation))
        yield b"data: [DONE]\n\n"
    except EngineFailed as error:
        yield _frame(Refusal(500, str(error), code="engine_failed").body())
    except DeadlineExceeded as error:
        yield _frame(Refusal(504, str(error), code="deadline_exceeded").body())
    finally:
        generation.close()
        note()


def _frame(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"
