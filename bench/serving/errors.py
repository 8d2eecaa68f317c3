"""The one error that a benchmark raises."""

from __future__ import annotations


class BenchError(Exception):
    """A measurement could not be made; the text says what was seen and what to do."""
