"""The same kernel wherever its engine is: here, in Podman, on another host, in a swarm.

Needs root, Docker, Podman and the test images (`make test-images`); the other hosts are network
namespaces, as in the tests, so that no wire is slow. See README.md beside this file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import report
import rounds
import running
from place import LOCAL, OURS, Column

sys.path.append(str(Path(__file__).parent.parent))

from tests.conftest import IMAGE
from tests.podman_engine import podman_configured
from tests.remote_engine import remote_engine
from tests.swarm_engines import swarm

WANTED = frozenset({"start", "roundtrip", "stream"})

Columns = Iterator[Column]


def local() -> Columns:
    yield Column(name="local", provisioner=LOCAL)


def local_curve() -> Columns:
    yield Column(name="local, Curve", provisioner=LOCAL, encryption="required")


def docker() -> Columns:
    yield Column(name="Docker", provisioner=OURS, config={"image": IMAGE, "engine": "docker"})


def docker_tcp() -> Columns:
    config = {"image": IMAGE, "engine": "docker", "transport": "tcp"}
    yield Column(name="Docker, tcp", provisioner=OURS, config=config)


def podman() -> Columns:
    with podman_configured():
        yield Column(name="Podman", provisioner=OURS, config={"image": IMAGE, "engine": "podman"})


def remote() -> Columns:
    with remote_engine(number=9) as engine:
        engine.load(IMAGE)
        config = {"image": IMAGE, "engine_url": engine.url, "workspace": "none"}
        yield Column(name="another host", provisioner=OURS, config=config)


def swarmed() -> Columns:
    with swarm(IMAGE, number=9) as formed:
        config = {"image": IMAGE, "engine_url": formed.url}
        yield Column(name="swarm", provisioner="container-swarm-provisioner", config=config)


PLACES: dict[str, Callable[[], Columns]] = {
    place.__name__.replace("_", "-"): place
    for place in (local, local_curve, docker, docker_tcp, podman, remote, swarmed)
}


def main() -> int:
    parser = running.parser("places.py", __doc__, rounds=5)
    parser.add_argument(
        "--only",
        action="append",
        choices=PLACES,
        help="only this place, beside local kernels; may be given several times (default: all)",
    )
    arguments = parser.parse_args()
    with ExitStack() as stack:
        columns = [
            stack.enter_context(contextmanager(place)())
            for name, place in PLACES.items()
            if name == "local" or not arguments.only or name in arguments.only
        ]
        results = running.run(lambda: rounds.run(columns, arguments.rounds, WANTED))
    names = [column.name for column in columns]
    measures = [measure for measure in rounds.MEASURES if measure.group in WANTED]
    table = report.rows(results.samples, measures, names)
    table = [list(row) for row in zip(*table, strict=True)]  # a page is narrow, and places many
    told = report.facts(arguments.rounds, results.inside) + results.notes
    running.tell(arguments, {"": table}, told, report.as_json(results.samples, measures, names))
    return 0


if __name__ == "__main__":
    sys.exit(main())
