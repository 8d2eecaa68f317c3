"""docs/benchmarks/serving.md and docs/benchmarks/cold-start.md, written from reports/serving.json."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.serving.parts import PARTS
from slipway.files import write_atomic
from slipway.paths import ROOT
from slipway.progress import say

if TYPE_CHECKING:
    from bench.serving.report import Result

_FOLDER = ROOT / "docs" / "benchmarks"
_FIRST_LINE = "<!-- Generated from reports/serving.json by `nox -s bench -- serving --page`; do not edit. -->"
_SERVING = """# The token service

A Llama-shaped model of 100 million random parameters (12 layers, width 768, vocabulary 32000, float32) behind the whole
service: HTTP workers, tokenizing, one engine process. Its peers keep all of that and replace only what generates, so
that ratios speak of the engine. Both sides take turns within one run; services, clients and everything else share the
machine's processors. Absolute figures are this machine's; ratios are what counts."""
_IMPORTS = "imports"


def _section(name: str, result: Result) -> list[str]:
    machine = result["machine"]
    seen = (
        f"{result['at']} UTC, {machine['processors']} processors ({machine['processor']}), {machine['memory_gib']} GiB"
    )
    return ["", f"## {PARTS[name].TITLE}", "", *PARTS[name].page(result), "", f"Measured {seen}.".replace("  ", " ")]


def write(results: dict[str, Result]) -> None:
    """Write the pages whose parts have been measured; parts that have not are named as missing."""
    parts = [name for name in PARTS if name != _IMPORTS]
    lines = [_FIRST_LINE, "", *_SERVING.splitlines()]
    for name in parts:
        if name in results:
            lines += _section(name, results[name])
        else:
            lines += ["", f"## {PARTS[name].TITLE}", "", f"Not measured yet: `nox -s bench -- serving --only {name}`."]
    pages = {"serving.md": lines} if any(name in results for name in parts) else {}
    if _IMPORTS in results:
        pages["cold-start.md"] = [_FIRST_LINE, "", "# Where a cold start goes", *_section(_IMPORTS, results[_IMPORTS])]
    for name, content in pages.items():
        if write_atomic(_FOLDER / name, "\n".join(content) + "\n"):
            say(f"bench: wrote docs/benchmarks/{name}")
