"""What Prometheus reads. Names mirror vLLM's with the prefix `token_service_`, so that its dashboards carry over.

The environment variable PROMETHEUS_MULTIPROC_DIR must be set before this module is imported; the client library
decides then whether values live in files shared by all processes. HTTP workers observe what clients see, engine
processes what the model does.
"""

from __future__ import annotations

import os

from prometheus_client import REGISTRY as _DEFAULT_REGISTRY
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# From a small model on a GPU (a token in a millisecond) to a large one on a CPU (seconds).
_LATENCY = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKEN = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256)

# Observed by HTTP workers.
http_requests = Counter(
    "token_service_http_requests_total",
    "Answered HTTP requests, health checks included; a client that left before the answer is 499.",
    ["route", "method", "status"],
)
success = Counter(
    "token_service_request_success_total",
    "Sequences by how they ended: stop, length, abort (client left), deadline, error.",
    ["model", "finished_reason"],
)
rejected = Counter(
    "token_service_requests_rejected_total",
    "Refused requests by reason: queue_full, not_ready, invalid, context, body, unauthorized, model, other.",
    ["reason"],
)
cancelled = Counter("token_service_requests_cancelled_total", "Requests whose client went away.", ["model"])
prompt_tokens = Counter("token_service_prompt_tokens_total", "Prompt tokens of admitted requests.", ["model"])
generation_tokens = Counter("token_service_generation_tokens_total", "Generated tokens.", ["model"])
first_token = Histogram(
    "token_service_time_to_first_token_seconds", "Request to first token.", ["model"], buckets=_LATENCY
)
inter_token = Histogram("token_service_inter_token_latency_seconds", "Between two tokens.", ["model"], buckets=_TOKEN)
end_to_end = Histogram(
    "token_service_e2e_request_latency_seconds", "Request to last token.", ["model"], buckets=_LATENCY
)

# Observed by engine processes.
running = Gauge(
    "token_service_num_requests_running", "Sequences being generated.", ["model"], multiprocess_mode="livesum"
)
waiting = Gauge(
    "token_service_num_requests_waiting", "Sequences waiting for a slot.", ["model"], multiprocess_mode="livesum"
)
kv_usage = Gauge(
    "token_service_kv_cache_usage_perc",
    "Share of the key-value cache that running sequences use, 0 to 1.",
    ["model"],
    multiprocess_mode="livesum",
)
queue_time = Histogram(
    "token_service_request_queue_time_seconds", "Submission to first forward pass.", ["model"], buckets=_LATENCY
)
batch_size = Histogram("token_service_batch_size", "Sequences in one forward pass.", ["model"], buckets=_BATCH)
step_time = Histogram(
    "token_service_forward_pass_seconds",
    "One forward pass, its kind: decode, or prefill when prompt tokens are in it.",
    ["model", "kind"],
    buckets=_TOKEN,
)
step_overhead = Counter(
    "token_service_step_overhead_seconds_total",
    "Time of the engine's loop outside the forward pass: scheduling, sampling, delivery.",
    ["model"],
)
prefix_queries = Counter("token_service_prefix_cache_queries_total", "Prompt tokens looked up.", ["model"])
prefix_hits = Counter("token_service_prefix_cache_hits_total", "Prompt tokens taken from the prefix cache.", ["model"])
engine_starts = Counter("token_service_engine_starts_total", "Engine processes that loaded the model.", ["model"])
engine_restarts = Counter(
    "token_service_engine_restarts_total", "Engine processes started in place of one that failed.", ["model"]
)
load_seconds = Gauge(
    "token_service_model_load_seconds",
    "Start of the engine process to its first forward pass.",
    ["model"],
    multiprocess_mode="livemostrecent",
)
build_info = Gauge(
    "token_service_build_info",
    "Always 1; what runs here.",
    ["model", "version", "image", "lock_sha256", "model_sha256"],
    multiprocess_mode="livemax",
)
environment_info = Gauge(
    "token_service_environment_info",
    "Packages of the locked environment; the labels say what they are for.",
    ["python", "lock_sha256"],
    multiprocess_mode="livemax",
)
environment_ok = Gauge(
    "token_service_environment_ok",
    "1: Python, packages and versions equal the lock; 0: they do not.",
    ["model"],
    multiprocess_mode="livemin",
)


def render() -> bytes:
    """Return all processes' metrics in Prometheus' text format; reads files, so call it off the event loop."""
    if VARIABLE not in os.environ:
        return generate_latest(_DEFAULT_REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def forget(pid: int) -> None:
    """Take a dead process's gauges out of the sums."""
    if VARIABLE in os.environ:
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
