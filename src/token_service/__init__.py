"""Token service: an OpenAI-compatible HTTP API that streams the tokens of one causal language model."""

__version__ = "0.1.0"
