"""Import what a start of the service and its first requests import, apart from its own code.

The image build runs this once and keeps the bytecode of exactly these modules. tests/images fails when the service
compiles a module that is missing here.
"""

# ruff: noqa: F401, INP001 - importing is all this file does, and it is no package

import argparse
import encodings.idna
import encodings.unicode_escape
import http.client
import importlib.metadata
import platform

import anyio._backends._asyncio
import fastapi.telemetry._runtime
import gunicorn.app.base
import gunicorn.arbiter
import gunicorn.glogging
import gunicorn.workers.base
import httptools
import jinja2
import orjson
import prometheus_client.multiprocess
import pydantic._internal._dataclasses
import pydantic.v1
import sse_starlette
import starlette.middleware.cors
import tokenizers.decoders
import torch
import transformers.models.llama.modeling_llama
import uvicorn.lifespan.on
import uvicorn.loops.auto
import uvicorn.loops.uvloop
import uvicorn.protocols.http.auto
import uvicorn.protocols.websockets.auto
import uvicorn_worker
from fastapi import FastAPI
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
