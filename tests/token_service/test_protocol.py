"""What one side packs the other unpacks; what is no frame ends the connection."""

from __future__ import annotations

import asyncio
import struct

import orjson
import pytest

from token_service import protocol
from token_service.protocol import Job, Sampling, Step, Token


def _over_the_wire(message: protocol.Message) -> protocol.Message:
    async def read() -> protocol.Message:
        reader = asyncio.StreamReader()
        reader.feed_data(protocol.pack(message))
        return await protocol.receive(reader)

    return asyncio.run(read())


@pytest.mark.parametrize(
    "job",
    [
        Job((1,), 1),
        Job((5, 6, 7), 0, Sampling(seed=-3), 0, prompt_logprobs=True),
        Job((9,), 4, Sampling(0.5, 0.9, 3, 0.1, 2**63 - 1, 1.5, -1.5, 1.2, ((3, -100.0), (4, 2.5))), 20),
    ],
)
def test_jobs_arrive_as_they_were_sent(job: Job) -> None:
    """Every field, 64-bit seeds included."""
    sent = {"op": "submit", "id": 1, "jobs": [protocol.job_to_wire(job)]}
    assert protocol.job_from_wire(_over_the_wire(sent)["jobs"][0]) == job


@pytest.mark.parametrize(
    "step",
    [
        Step((Token(3),)),
        Step((), "length", 7, (Token(1), Token(2, -0.25, ((2, -0.25), (5, -1.5))))),
        Step((Token(4, -1.0),), "stop"),
    ],
)
def test_steps_arrive_as_they_were_sent(step: Step) -> None:
    """With and without log probabilities."""
    sent = {"op": "steps", "steps": [[1, 0, protocol.step_to_wire(step)]]}
    assert protocol.step_from_wire(_over_the_wire(sent)["steps"][0][2]) == step


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0",
        struct.pack(">I", 10) + b"{}",
        struct.pack(">I", 1 << 31),
        struct.pack(">I", 3) + b"{no",
    ],
)
def test_broken_frames_end_the_connection(data: bytes) -> None:
    """Cut off, longer than any frame, or no JSON."""

    async def read() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        await protocol.receive(reader)

    with pytest.raises(EOFError):
        asyncio.run(read())


def test_frame_is_length_and_json() -> None:
    """As the module says, so that another program can speak it."""
    frame = protocol.pack({"op": "probe", "id": 1})
    assert orjson.loads(frame[4:]) == {"op": "probe", "id": 1}
    assert struct.unpack(">I", frame[:4])[0] == len(frame) - 4
