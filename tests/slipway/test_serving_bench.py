"""The serving benchmark's own parts: what it counts, keeps and writes. What it measures is in docs/benchmarks."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from bench.serving import load, page, report
from bench.serving.errors import BenchError
from bench.serving.parts import PARTS
from bench.serving.plan import Goal, goals_table

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

_STREAM = (
    b'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {"choices":[{"index":0,"text":"a"}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":7}}\n\ndata: [DONE]\n\n',
)


def _against(pieces: tuple[bytes, ...], *, hold: bool, send: Callable[[str], Awaitable[load.Result]]) -> load.Result:
    """Return what the load generator makes of a server that says `pieces`, then hangs up or holds the line."""
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.writelines(pieces)
        await writer.drain()
        with contextlib.suppress(ConnectionError):
            if hold:
                await reader.read()
            writer.close()
            await writer.wait_closed()
        served.set()

    async def talk() -> load.Result:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            try:
                return await send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            finally:
                await served.wait()

    return asyncio.run(talk())


def test_stream_is_complete_with_its_last_frame() -> None:
    """Tokens are those of the usage, whatever the pieces in which they came."""
    result = _against(_STREAM, hold=False, send=lambda url: load.send(url, {"stream": True}))
    assert (result.status, result.tokens, result.complete) == (200, 7, True)
    assert result.started <= result.started + result.to_first <= result.ended


def test_stream_without_its_last_frame_is_cut() -> None:
    """And is refused where an exact number of tokens is wanted."""
    result = _against(_STREAM[:1], hold=False, send=lambda url: load.send(url, {"stream": True}))
    assert not result.complete
    with pytest.raises(BenchError, match="complete False"):
        load.checked(result, 7)


def test_client_leaves_at_the_first_text() -> None:
    """Although the server would go on."""
    result = _against(_STREAM[:1], hold=True, send=lambda url: load.send(url, {}, leave_at_first=True, timeout=20))
    assert (result.status, result.complete) == (200, False)
    assert result.first is not None


def test_hung_request_is_an_error() -> None:
    """Never a figure."""
    with pytest.raises(BenchError, match="no end after"):
        _against(_STREAM[:1], hold=True, send=lambda url: load.send(url, {}, timeout=0.1))


def test_missed_goal_says_so() -> None:
    """In the page as in the report."""
    goals = [Goal("fast", 1.9, ">=", 2).stored(), Goal("small", 1.2, "<=", 1.3).stored()]
    assert [goal["met"] for goal in goals] == [False, True]
    assert goals_table(goals)[2:] == ["| fast | 1.90 x | >= 2 x | **missed** |", "| small | 1.20 x | <= 1.3 x | met |"]


def test_parts_are_kept_one_by_one(tmp_path: Path) -> None:
    """A run of one part leaves the others' results; a damaged report is begun anew."""
    file = tmp_path / "serving.json"
    file.write_text("{half")
    report.save("ttft", {"goals": []}, file)
    found = report.save("soak", {"goals": []}, file)
    assert set(found) == set(report.load(file)) == {"ttft", "soak"}


def test_page_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that measures it; the first line says where the page comes from."""
    monkeypatch.setattr(page, "_FOLDER", tmp_path)
    figures = {name: {"wall_seconds": 1, "forward_seconds": 0.9, "loop_seconds": 0.05, "decode_ms": 9} for name in "a"}
    page.write(report.save("overhead", {"figures": figures["a"], "goals": []}, tmp_path / "serving.json"))
    text = (tmp_path / "serving.md").read_text()
    assert text.startswith("<!-- Generated ")
    assert f"## {PARTS['overhead'].TITLE}" in text
    assert "Not measured yet: `nox -s bench -- serving --only soak`." in text
    assert not (tmp_path / "cold-start.md").exists()
