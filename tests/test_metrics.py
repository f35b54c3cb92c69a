"""What Prometheus gets from a real server's ``/metrics``."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import requests
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from container_provisioner.server.metrics import KernelMetrics
from container_provisioner.stages import Reporter

from .conftest import own_jupyter, shared_folder, write_kernelspec
from .own_engine import own_engine
from .server_process import TIMEOUT, TOKEN, Server, eventually, jupyter_server
from .test_deaths import ALLOCATE
from .test_events import Manager

as_root = pytest.mark.skipif(os.getuid() != 0, reason="an engine of one's own needs root")

OURS = "container_provisioner_"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server; all of a test have the same kernelspecs, runtime directory and root."""
    with own_jupyter() as runtime, shared_folder() as folder, ExitStack() as stack:
        write_kernelspec(runtime, "small", memory_limit="128m", on_server_exit="keep")
        write_kernelspec(runtime, "pooled", warm_pool_size=1)
        write_kernelspec(runtime, "none", image="no-such/image:1", pull_policy="never")

        def serve(**environment: str) -> Server:
            options = ("--KernelRestarter.time_to_dead=0.5",)
            return stack.enter_context(jupyter_server(runtime, folder, *options, **environment))

        yield serve


def scrape(server: Server, token: str = TOKEN) -> requests.Response:
    headers = {"Authorization": f"token {token}"}
    return requests.get(f"{server.url}metrics", headers=headers, timeout=TIMEOUT)


def samples(server: Server) -> Samples:
    """Ours: by name and labels."""
    return {
        (sample.name.removeprefix(OURS), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(scrape(server).text)
        if family.name.startswith(OURS)
        for sample in family.samples
    }


def value(server: Server, name: str, **labels: str) -> float:
    """0 as long as nothing was counted."""
    return samples(server).get((name, frozenset(labels.items())), 0.0)


def told(server: Server, number: float, name: str, **labels: str) -> None:
    eventually(
        lambda: value(server, name, **labels) == number,
        f"{name} {labels} to be {number}: {samples(server)}",
    )


@pytest.mark.docker
def test_starts_and_ends_are_counted(serve: Serve) -> None:
    """Cold, warm, in place, adopted, failed; out of memory and shut down."""
    server = serve()
    told(server, 1, "warm_containers_waiting", kernel_name="pooled")
    assert value(server, "warm_containers_wanted", kernel_name="pooled") == 1
    small, pooled = server.start("small", path=""), server.start("pooled", path="")
    counted = "kernel_start_seconds_count"
    assert value(server, counted, kernel_name="small", start="cold") == 1
    assert value(server, counted, kernel_name="pooled", start="warm") == 1
    cold = value(server, "kernel_start_seconds_sum", kernel_name="small", start="cold")
    warm = value(server, "kernel_start_seconds_sum", kernel_name="pooled", start="warm")
    assert 0 < warm < cold < TIMEOUT
    told(server, 1, "warm_containers_waiting", kernel_name="pooled")  # another one

    assert server.call("POST", "kernels", name="none").status_code == 500
    failures = {"kernel_name": "none", "error": "ImageMissing"}
    assert value(server, "kernel_start_failures_total", **failures) == 1
    assert value(server, "engine_errors_total", error="ImageMissing") == 0  # it is well

    with server.channels(small) as channels:
        channels.execute(ALLOCATE)
        told(server, 1, "kernel_exits_total", kernel_name="small", cause="memory")
        told(server, 1, counted, kernel_name="small", start="in-place")
    server.clear_away(pooled)
    told(server, 1, "kernel_exits_total", kernel_name="pooled", cause="requested")

    # One series for each kernelspec, however many kernels there are.
    page = scrape(server).text
    assert small not in page
    assert pooled not in page
    assert scrape(server, token="another").status_code == 403

    server.process.kill()
    server.process.wait()
    second = serve()
    assert value(second, counted, kernel_name="small", start="adopted") == 1
    assert value(second, counted, kernel_name="small", start="cold") == 0
    second.clear_away(small)


@as_root
@pytest.mark.docker
def test_an_engine_that_does_not_answer_is_told(serve: Serve) -> None:
    with own_engine(live_restore=True) as engine:
        server = serve(CONTAINER_PROVISIONER_ENGINE_URL=engine.url)
        kernel_id = server.start("small", path="")
        assert value(server, "engines_unavailable") == 0
        failed = {"error": "EngineUnavailable"}
        assert value(server, "engine_errors_total", **failed) == 0
        engine.stop()
        told(server, 1, "engines_unavailable")
        assert server.call("POST", "kernels", name="small").status_code == 500
        assert value(server, "engine_errors_total", **failed) > 0
        assert value(server, "kernel_start_failures_total", kernel_name="small", **failed) == 1
        engine.start()
        told(server, 0, "engines_unavailable")
        server.clear_away(kernel_id)


@pytest.mark.parametrize(("whose", "counted"), [("ours", 1.0), ("theirs", None)])
def test_only_this_servers_kernels_are_counted(whose: str, counted: float | None) -> None:
    kernels = object()
    manager = Manager(parent=kernels if whose == "ours" else object(), kernel_name=whose)
    reporter = Reporter("k", logging.getLogger(__name__), manager)
    metrics = KernelMetrics(kernels)
    reporter.tell("exited", cause="exit")
    metrics.close()
    reporter.tell("exited", cause="exit")
    name = f"{OURS}kernel_exits_total"
    assert REGISTRY.get_sample_value(name, {"kernel_name": whose, "cause": "exit"}) == counted
