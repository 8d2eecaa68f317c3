"""Slipway: from bare hosts to streamed tokens. Operator-side code that nox and the roles call."""

__version__ = "0.1.0"
