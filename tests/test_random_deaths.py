"""Twenty servers are killed at random moments: nothing is orphaned, and what is kept can be had.

In every other place kernels come from a warm pool, which the Jupyter Server and a command keep, and
restart into one; they are killed too.

A failing run prints its seed; RANDOM_DEATHS_SEED repeats its choices, though not its timing.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
import requests

from container_provisioner import labels
from container_provisioner.store import RecordStore, short_name

from .conftest import own_jupyter, shared_folder, write_kernelspec
from .ends import left_below
from .guards import guards
from .server_process import TOKEN, Server, eventually

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]

SERVERS = 20
EVERY_FIFTH = 5  # is a real Jupyter Server, and so many of them share a place
AT_ONCE = 4
LONGEST_LIFE = 4.0  # seconds after it could start its first kernel
OPERATIONS = 300  # a process of two kernels has done so many after two or three seconds
SETTLED_SECONDS = 15.0
HERE = Path(__file__).parent
WARM = {"warm_pool_size": 1, "workspace": "none", "restart_mode": "recreate"}
KEEP_WARM = ("-m", "container_provisioner", "warm", "keep")


@dataclass
class Place:
    """A runtime directory and its servers. None of them sees those of another place."""

    runtime: Path
    folder: Path
    environment: dict[str, str]
    client: docker.DockerClient
    keeper: subprocess.Popen[bytes] | None = None

    @property
    def ours(self) -> Path:
        return self.runtime / "container-provisioner"

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        with open(self.runtime.parent / "servers.log", "ab") as log:
            return subprocess.Popen(
                [sys.executable, *argv],
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )

    def containers(self) -> dict[str, tuple[str, str]]:
        """Policy, and whether it runs or how it ended, by kernel id or by name."""
        if not (self.ours / "place").exists():
            return {}
        label = f"{labels.PLACE}={(self.ours / 'place').read_text()}"
        found = self.client.api.containers(all=True, filters={"label": label})
        return {
            item["Names"][0].removeprefix("/jupyter-kernel-"): (
                item["Labels"][labels.ON_SERVER_EXIT],
                item["Status"].partition(")")[0] if item["State"] == "exited" else item["State"],
            )
            for item in found
        }

    def records(self) -> dict[str, str]:
        """Policy, by kernel id."""
        found, problems = RecordStore(self.ours / "records").read_all()
        assert problems == []
        return {item["kernel_id"]: item["container"]["on_server_exit"] for item in found}

    def orphans(self) -> dict[str, Any]:
        """What there is beyond kept kernels with their records."""
        containers, records = self.containers(), self.records()
        kept = {kernel_id for kernel_id, policy in records.items() if policy == "keep"}
        theirs = {f"{short_name(kernel_id)}{end}" for kernel_id in kept for end in ("", ".json")}
        # A claimed container's directory has another name, and the kernel's is a link to it.
        theirs |= {(self.ours / short_name(kernel_id)).resolve().name for kernel_id in kept}
        files = [path for path in left_below(self.runtime) if path.is_relative_to(self.ours)]
        left = {
            "containers": {k: v for k, v in containers.items() if k not in kept},
            "records": sorted(records.keys() - kept),
            "files": [str(path) for path in files if path.name not in theirs],
            "guards": guards(self.runtime) if not kept else [],
        }
        return {what: found for what, found in left.items() if found}


def a_script_dies(place: Place, chance: random.Random) -> str:
    """By the clock, or by its own hand between two steps of what it does."""
    operations = chance.choice([0, chance.randint(1, OPERATIONS)])
    life = chance.uniform(0, LONGEST_LIFE)
    seed = str(chance.random())
    process = place.start(str(HERE / "mortal.py"), str(place.folder), seed, str(operations))
    assert process.stdout is not None
    assert process.stdout.readline() == b"begins\n"
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=20 if operations else life)
    end(process)
    return f"script, {operations} operations or {life:.3f} s"


def a_server_dies(place: Place, chance: random.Random) -> str:
    process = place.start(
        *("-m", "jupyter_server", "--allow-root", "--ServerApp.port=0"),
        *(f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={place.folder}"),
    )
    address = place.runtime / f"jpserver-{process.pid}.json"
    server = Server(process, address, place.folder, place.runtime.parent / "servers.log")
    eventually(lambda: server.answers, "the server to listen")
    life = chance.uniform(0, LONGEST_LIFE)
    with ThreadPoolExecutor() as users:
        used = [
            users.submit(use, server, name, random.Random(chance.random()))
            for name in ("keep", "stop")
        ]
        time.sleep(life)
        end(process)
    for outcome in used:
        outcome.result()
    return f"Jupyter Server, {life:.3f} s"


def use(server: Server, name: str, chance: random.Random) -> None:
    with contextlib.suppress(requests.RequestException):
        while True:
            kernel_id = server.start(name)
            for _ in range(chance.randrange(3)):
                server.call("POST", f"kernels/{kernel_id}/restart")
            if chance.random() < 0.7:
                server.delete(kernel_id)


def end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.fixture
def places(docker_client: docker.DockerClient) -> Iterator[list[Place]]:
    made = []
    with ExitStack() as stack:
        for _ in range(SERVERS // EVERY_FIFTH):
            runtime = stack.enter_context(own_jupyter())
            folder = stack.enter_context(shared_folder())
            place = Place(runtime, folder, dict(os.environ), docker_client)
            warm = WARM if len(made) % 2 else {}
            write_kernelspec(runtime, "keep", on_server_exit="keep", **warm)
            write_kernelspec(runtime, "stop", **warm)
            made.append(place)
            if warm:
                place.keeper = place.start(*KEEP_WARM)
        yield made
        end_keepers(made)
        for place in made:
            for log in (place.runtime.parent / "servers.log", place.ours / "guard.log"):
                if log.exists():
                    print(f"--- {log}\n{log.read_text()[-6000:]}")


def test_after_random_deaths_nothing_is_orphaned_and_kept_kernels_are_adoptable(
    places: list[Place],
) -> None:
    seed = int(os.environ.get("RANDOM_DEATHS_SEED") or random.randrange(2**32))
    print(f"RANDOM_DEATHS_SEED={seed}")

    def live_and_die(number: int) -> None:
        place = places[number // EVERY_FIFTH]
        chance = random.Random(f"{seed} {number}")
        die = a_server_dies if number % EVERY_FIFTH == 3 else a_script_dies
        print(f"{number}: {place.runtime}: {die(place, chance)}")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(live_and_die, range(SERVERS)))

    end_keepers(places)
    settled(places)
    assert any(place.records() for place in places)
    for place in places:
        kept = place.records()
        print(f"{place.runtime}: {place.containers()}")
        heir = subprocess.run(
            [sys.executable, str(HERE / "heir.py"), "print(6 * 7)"],
            env=place.environment,
            cwd=place.folder,
            stdout=subprocess.PIPE,
            check=True,
            timeout=90,
        )
        assert json.loads(heir.stdout) == dict.fromkeys(kept, "42\n")
    settled(places)
    assert [place.records() for place in places] == [{}] * len(places)


def end_keepers(places: list[Place]) -> None:
    for place in places:
        if place.keeper is not None:
            end(place.keeper)
            place.keeper = None


def settled(places: list[Place]) -> None:
    deadline = time.monotonic() + SETTLED_SECONDS
    for place in places:
        while orphans := place.orphans():
            assert time.monotonic() < deadline, orphans
            time.sleep(0.2)
