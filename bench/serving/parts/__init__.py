"""What is measured, one module each: `run` measures, `page` turns the stored result into a section."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.serving.parts import coldstart, imports, long, memory, overhead, soak, throughput, ttft

if TYPE_CHECKING:
    from types import ModuleType

PARTS: dict[str, ModuleType] = {
    "throughput": throughput,
    "long": long,
    "ttft": ttft,
    "overhead": overhead,
    "coldstart": coldstart,
    "imports": imports,
    "memory": memory,
    "soak": soak,
}
