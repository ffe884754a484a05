"""Traces by OpenTelemetry: what becomes of an event whose producer sends a `traceparent`. Off unless configured.

Spans are told after the fact, with the times at which things began and ended: nothing is added to what they tell of.
Events without a `traceparent` cost one comparison.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

from shared.errors import StartError
from shared.settings import settings

NS_PER_S = 1_000_000_000
SERVICE = "carillon"
FLUSH_S = 1.5


def require() -> None:
    """Raise `StartError` where traces are wanted and the packages for them are missing."""
    if settings().otlp_endpoint is not None:
        _packages()


def _packages() -> tuple[Any, Any, Any, Any]:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise StartError(
            "CARILLON_OTLP_ENDPOINT is set without OpenTelemetry: install the extra `tracing`, or unset it."
        ) from None
    return OTLPSpanExporter, Resource, TracerProvider, BatchSpanProcessor


@lru_cache(maxsize=1)
def _provider() -> Any:
    """Return this process's provider, made at its first span, after any fork; None: traces are off."""
    endpoint = settings().otlp_endpoint
    if endpoint is None:
        return None
    exporter, resource, provider_of, batches = _packages()
    provider = provider_of(resource=resource.create({"service.name": SERVICE}), shutdown_on_exit=False)
    provider.add_span_processor(batches(exporter(endpoint=endpoint)))
    return provider


def tell(name: str, traceparent: str | None, began: float, ended: float, **ids: str | int) -> None:
    """Tell that something was done for an event between two moments (Unix time), as a child of the producer's span.

    Nothing for an event without a `traceparent`, or one whose producer does not sample it. Never waits: spans are sent
    in batches by a thread.
    """
    if traceparent is None or (provider := _provider()) is None:
        return
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    parent = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
    tracer = provider.get_tracer(SERVICE)
    attributes = {f"carillon.{key}": value for key, value in ids.items()}
    span = tracer.start_span(name, parent, start_time=int(began * NS_PER_S), attributes=attributes)
    span.end(int(ended * NS_PER_S))


def end() -> None:
    """Send what waits, for `FLUSH_S` at most, and end; nothing where traces are off."""
    if _provider.cache_info().currsize and (provider := _provider()) is not None:
        # A collector that is away must not hold up a stop: what is left ends with the process.
        sending = threading.Thread(target=provider.shutdown, daemon=True)
        sending.start()
        sending.join(FLUSH_S)
    _provider.cache_clear()
