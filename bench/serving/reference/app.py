"""The service as a first attempt writes it: every worker loads the model, each request runs `generate()` in a thread.

It stands for the reference image of the requirements in measurements of a cold start, and does only what those need.
"""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any

import torch
from fastapi import FastAPI
from sse_starlette import EventSourceResponse
from transformers import AutoModelForCausalLM, AutoTokenizer, TextIteratorStreamer

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDER = os.environ.get("REFERENCE_MODEL", "/models/current")
torch.set_num_threads(1)
tokenizer = AutoTokenizer.from_pretrained(_FOLDER)
model = AutoModelForCausalLM.from_pretrained(_FOLDER, dtype=torch.float32)
app = FastAPI()


@app.post("/v1/completions")
def completions(body: dict[str, Any]) -> EventSourceResponse:
    """Stream a continuation of `prompt`."""
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True)
    options = {"max_new_tokens": body["max_tokens"], "do_sample": False, "streamer": streamer}
    inputs = tokenizer(body["prompt"], return_tensors="pt")
    threading.Thread(target=model.generate, kwargs={**inputs, **options}, daemon=True).start()  # type: ignore[misc]

    def events() -> Iterator[str]:
        for text in streamer:
            yield json.dumps({"choices": [{"text": text}]}, separators=(",", ":"))
        yield "[DONE]"

    return EventSourceResponse(events(), sep="\n")
