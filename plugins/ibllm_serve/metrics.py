"""What the server counts, in Prometheus' format; a registry of its own, so that several servers in a process do not mix."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from .batching import Batcher

__all__ = ["Metrics"]

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter("ibllm_requests", "Requests answered.", ["operation", "status"], registry=self.registry)
        self.seconds = Histogram(
            "ibllm_request_seconds", "From a request's head to its answer.", ["operation"], buckets=SECONDS, registry=self.registry
        )
        self.batches = Histogram(
            "ibllm_batch_rows", "Rows that went through the model together.", ["operation"], buckets=ROWS, registry=self.registry
        )
        self.computing = Histogram(
            "ibllm_batch_seconds", "Of one batch in the model.", ["operation"], buckets=SECONDS, registry=self.registry
        )
        self.waiting = Gauge("ibllm_waiting", "Requests that wait for their turn.", registry=self.registry)

    def watch(self, batcher: Batcher) -> None:
        self.waiting.set_function(lambda: batcher.waiting)

    def batch(self, operation: str, rows: int, seconds: float) -> None:
        self.batches.labels(operation).observe(rows)
        self.computing.labels(operation).observe(seconds)

    def answered(self, operation: str, status: int, seconds: float) -> None:
        self.requests.labels(operation, str(status)).inc()
        self.seconds.labels(operation).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self.registry)
