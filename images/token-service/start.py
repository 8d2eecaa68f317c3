"""Import what a start of the service imports, apart from its own code.

The image build runs this once and keeps the bytecode of exactly these modules. tests/images fails when a start of the
service compiles a module that is missing here.
"""

# ruff: noqa: F401, INP001 - importing is all this file does, and it is no package
import gunicorn.app.base
import gunicorn.arbiter
import gunicorn.glogging
import gunicorn.workers.base
import jinja2
import orjson
import prometheus_client.multiprocess
import pydantic.v1
import sse_starlette
import tokenizers.decoders
import torch
import transformers.models.llama.modeling_llama
import uvicorn_worker
from fastapi import FastAPI
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LogitsProcessorList,
    PreTrainedTokenizerFast,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
