"""What kernels in containers and their engines do, beside jupyter_server's own metrics.

At the server's ``/metrics``; docs/metrics.md has the table. Starts and ends are counted as they
are reported; what waits, and whether engines answer, is looked up when somebody asks.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator, Mapping
from typing import get_args

from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ..engine.find import opened_engines
from ..exits import Cause
from ..stages import Report, observe, stop_observing
from ..warm import WarmPool

# Seconds. A warm start takes hundredths, a cold one tenths, a pull minutes.
START_BUCKETS = (0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2, 5, 10, 30, 60, 120, 300, 600)

# Of the process, as jupyter_server's own are: a second server in it adds to the same.
STARTS = Histogram(
    "container_provisioner_kernel_start_seconds",
    "Time from the request for a kernel until it listens",
    ["kernel_name", "start"],
    buckets=START_BUCKETS,
)
FAILED_STARTS = Counter(
    "container_provisioner_kernel_start_failures_total",
    "Starts that were given up, by the class of the error",
    ["kernel_name", "error"],
)
EXITS = Counter(
    "container_provisioner_kernel_exits_total",
    "Kernels that ended, by cause",
    ["kernel_name", "cause"],
)


class KernelMetrics:
    """Counts the reports of kernels that one server's manager has, from any thread.

    `pool` is what keeps the server's warm containers, if anything does.
    """

    def __init__(self, kernels: object) -> None:
        self._kernels = kernels
        self.pool: WarmPool | None = None
        observe(self._reported)
        _now.servers.append(self)

    def close(self) -> None:
        stop_observing(self._reported)
        _now.servers.remove(self)

    def _reported(self, report: Report) -> None:
        if getattr(report.manager, "parent", None) is not self._kernels:
            return
        name = report.kernel_name
        if report.stage == "ready":
            STARTS.labels(name, report.start).observe(report.seconds)
            for cause in get_args(Cause):  # Prometheus sees no increase without a 0 before it
                EXITS.labels(name, cause)
        elif report.stage == "failed":
            FAILED_STARTS.labels(name, report.error).inc()
        elif report.stage == "exited":
            EXITS.labels(name, report.cause).inc()


class _Now:
    """Looks at each scrape. Asks no engine: a scrape must not wait for one that is silent."""

    def __init__(self) -> None:
        self.servers: list[KernelMetrics] = []

    def collect(self) -> Iterator[Metric]:
        waiting, wanted = Tally[str](), Tally[str]()
        for server in self.servers:
            for name, (has, wants) in (server.pool.sizes() if server.pool else {}).items():
                waiting[name] += has
                wanted[name] += wants
        yield _gauge("waiting", "Warm containers that wait to be taken", waiting)
        yield _gauge("wanted", "Warm containers that are to wait", wanted)

        engines = opened_engines()
        yield GaugeMetricFamily(
            "container_provisioner_engines_unavailable",
            "Engines that have kernels of this server and do not answer",
            sum(engine.watcher.is_cut_off for engine in engines),
        )
        errors = CounterMetricFamily(
            "container_provisioner_engine_errors",
            "Calls that an engine failed or did not answer, by the class of the error",
            labels=["error"],
        )
        for error, number in sum((engine.errors for engine in engines), Tally[str]()).items():
            errors.add_metric([error], number)
        yield errors


def _gauge(name: str, text: str, numbers: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(
        f"container_provisioner_warm_containers_{name}", text, labels=["kernel_name"]
    )
    for kernel_name, number in numbers.items():
        family.add_metric([kernel_name], number)
    return family


_now = _Now()
REGISTRY.register(_now)
