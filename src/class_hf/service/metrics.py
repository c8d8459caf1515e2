"""The numbers of the service in the text format of Prometheus."""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

# With several workers, each writes its numbers into this folder. prometheus_client reads the variable at its import.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class ServiceMetrics:
    """Counters of one service.

    Example:

    >>> metrics = ServiceMetrics()
    >>> metrics.observe_request("/v1/search", 200, 0.02)
    >>> "class_hf_requests_total{route=\\"/v1/search\\",status=\\"200\\"} 1.0" in metrics.render().decode()
    True
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("class_hf_requests_total", "Requests.", ("route", "status"), registry=registry)
        self._seconds = Histogram(
            "class_hf_request_seconds", "Seconds of a request.", ("route",), buckets=_SECONDS, registry=registry
        )
        self._batches = Histogram(
            "class_hf_batch_queries", "Queries that are encoded together.", buckets=_SIZES, registry=registry
        )
        self._waiting = Gauge(
            "class_hf_waiting_queries", "Queries that wait.", multiprocess_mode="livesum", registry=registry
        )
        self._molecules = Gauge(
            "class_hf_index_molecules", "Molecules of the index.", multiprocess_mode="max", registry=registry
        )
        if FOLDER_VARIABLE not in os.environ:
            ProcessCollector(registry=self._registry)

    def observe_request(self, route: str, status: int, seconds: float) -> None:
        """Counts an answered request.

        Args:
            route (`str`): its route, one of a fixed list.
            status (`int`): its status.
            seconds (`float`): its time.
        """
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def observe_batch(self, queries: int) -> None:
        """Counts a batch of queries."""
        self._batches.observe(queries)

    def set_state(self, waiting: int, molecules: int) -> None:
        """Sets how many queries wait, and the size of the index."""
        self._waiting.set(waiting)
        self._molecules.set(molecules)

    def render(self) -> bytes:
        """The numbers as text. With several workers, those of all of them."""
        if FOLDER_VARIABLE not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        return generate_latest(registry)
