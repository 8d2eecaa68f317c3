"""What Prometheus reads. Names mirror vLLM's with the prefix `token_service_`, so that its dashboards carry over.

The environment variable PROMETHEUS_MULTIPROC_DIR must be set before this module is imported; the client library
decides then whether values live in files shared by all workers.
"""

from __future__ import annotations

import os

from prometheus_client import REGISTRY as _DEFAULT_REGISTRY
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

http_requests = Counter(
    "token_service_http_requests_total",
    "Answered HTTP requests, health checks included.",
    ["route", "method", "status"],
)
success = Counter(
    "token_service_request_success_total",
    "Sequences by how they ended: stop, length, abort, error.",
    ["finished_reason"],
)
prompt_tokens = Counter("token_service_prompt_tokens_total", "Prompt tokens of admitted requests.")
generation_tokens = Counter("token_service_generation_tokens_total", "Generated tokens.")
running = Gauge("token_service_num_requests_running", "Sequences being generated.", multiprocess_mode="livesum")
waiting = Gauge("token_service_num_requests_waiting", "Requests waiting for a slot.", multiprocess_mode="livesum")
queue_time = Histogram("token_service_request_queue_time_seconds", "Admission to first step.", buckets=_LATENCY)
first_token = Histogram("token_service_time_to_first_token_seconds", "Admission to first token.", buckets=_LATENCY)
inter_token = Histogram("token_service_inter_token_latency_seconds", "Between two tokens.", buckets=_TOKEN)
end_to_end = Histogram("token_service_e2e_request_latency_seconds", "Admission to last token.", buckets=_LATENCY)


def render() -> bytes:
    """Return all workers' metrics in Prometheus' text format; reads files, so call it off the event loop."""
    if VARIABLE not in os.environ:
        return generate_latest(_DEFAULT_REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def forget(pid: int) -> None:
    """Take a dead worker's gauges out of the sums."""
    if VARIABLE in os.environ:
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
