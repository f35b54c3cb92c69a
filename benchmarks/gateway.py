"""Beside gateway_provisioners' DockerProvisioner, with kernels from the same image.

It runs in a process and an interpreter of its own: once it is loaded, every kernel of a process
answers in about 22 ms, whatever its provisioner. Rounds of that process and of this one alternate.
The image gets what it asks for: its launchers, its bootstrap script as command, pycryptodomex.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import subprocess
import sys
import tarfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from string import Template
from typing import Any

import engine
import report
import rounds
import running
from place import LOCAL, OURS, Column
from rounds import Results, one_round, opened

PACKAGE = "gateway_provisioners[docker]==0.5.0"
IMAGE = "container-provisioner-test/kernel:1"
TIMEOUT = 600.0  # seconds for a round of the other process
WANTED = frozenset(rounds.GROUPS)
LAUNCHERS = "/usr/local/bin/kernel-launchers"
BOOTSTRAP = "/usr/local/bin/bootstrap-kernel.sh"
DOCKERFILE = f"""
FROM {{image}}
USER root
COPY launchers {LAUNCHERS}
COPY bootstrap.sh {BOOTSTRAP}
COPY Cryptodome {LAUNCHERS}/python/scripts/Cryptodome
USER 1000:100
ENV KERNEL_LANGUAGE=python
CMD ["{BOOTSTRAP}"]
"""
FOLDERS = (
    "import json, Cryptodome, gateway_provisioners;"
    "print(json.dumps([Cryptodome.__path__[0], gateway_provisioners.__path__[0]]))"
)
# As `jupyter docker-spec install` writes it.
OPTIONS = (
    *("--kernel-id", "{kernel_id}"),
    *("--port-range", "{port_range}"),
    *("--response-address", "{response_address}"),
    *("--public-key", "{public_key}"),
    *("--transport-encryption", "{transport_encryption}"),
    *("--kernel-class-name", "ipykernel.ipkernel.IPythonKernel"),
)


def gateway_column(image: str, package: str) -> Column:
    launcher = f"{package}/kernel-launchers/docker/scripts/launch_docker.py"
    return Column(
        name="gateway",
        provisioner="docker-provisioner",
        config={"image_name": image},
        argv=("python", launcher, *OPTIONS),
        env={"IPYTHONDIR": "/tmp/ipython"},  # in the container; it would get this process's
    )


async def inside(image: str, package: str) -> None:
    """The other process: a round for each line it reads."""
    column = gateway_column(image, package)
    async with opened([column], WANTED) as place:
        while await asyncio.to_thread(sys.stdin.readline):
            results = Results(WANTED)
            await one_round([column], place, results)
            print(json.dumps([results.samples, results.inside]), flush=True)


async def measure(arguments: argparse.Namespace, columns: list[Column]) -> Results:
    results = Results(WANTED)
    async with running.scratch() as directory:
        python = arguments.python or await new_environment(directory)
        crypto, package = json.loads(await output(python, "-c", FOLDERS))
        async with derived_image(arguments.image, Path(package), Path(crypto)) as image:
            command = [python, str(Path(__file__)), "--inside", image, package]
            async with (
                running.process(
                    *command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    limit=1 << 24,
                    env=environment(),
                ) as other,
                opened(columns, WANTED) as place,
            ):
                for number in range(arguments.rounds + 1):
                    running.say(f"round {number} of {arguments.rounds}" if number else "warming up")
                    target = results if number else Results(WANTED)
                    if number % 2:
                        await other_round(other, target)
                    await one_round(columns[:: 1 if number % 2 else -1], place, target)
                    if not number % 2:
                        await other_round(other, target)
                assert other.stdin is not None
                other.stdin.close()
                await other.wait()
    return results


async def other_round(other: running.Process, results: Results) -> None:
    assert other.stdin is not None
    assert other.stdout is not None
    other.stdin.write(b"\n")
    line = await asyncio.wait_for(other.stdout.readline(), TIMEOUT)
    if not line:
        raise SystemExit("The process of gateway_provisioners has ended; see above.")
    samples, versions = json.loads(line)
    results.merge(samples)
    results.inside |= versions


async def new_environment(directory: Path) -> str:
    running.say(f"installing {PACKAGE}")
    await output(sys.executable, "-m", "venv", str(directory / "venv"))
    python = str(directory / "venv" / "bin" / "python")
    await output(python, "-m", "pip", "install", "--quiet", PACKAGE)
    return python


async def output(*command: str) -> str:
    async with running.process(*command, stdout=subprocess.PIPE) as one:
        written, _ = await one.communicate()
    if one.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {one.returncode}")
    return written.decode()


def environment() -> dict[str, str]:
    """Little: all of it goes into the container. The kernel answers to the bridge's address."""
    bridge = engine.client().networks.get("bridge").attrs["IPAM"]["Config"][0]
    kept = {name: os.environ[name] for name in ("PATH", "DOCKER_HOST") if name in os.environ}
    return {**kept, "KERNEL_USERNAME": "bench", "GP_RESPONSE_IP": bridge["Gateway"]}


@asynccontextmanager
async def derived_image(image: str, package: Path, crypto: Path) -> AsyncIterator[str]:
    """The image with what gateway_provisioners needs in it; removed at the end."""
    name = f"container-provisioner-bench:{uuid.uuid4().hex[:12]}"
    client = engine.client()
    running.say(f"adding gateway_provisioners to {image}")
    context = build_context(image, package, crypto)
    await asyncio.to_thread(
        lambda: client.images.build(
            fileobj=context, custom_context=True, tag=name, network_mode="none", rm=True,
            forcerm=True,
        )
    )  # fmt: skip
    try:
        yield name
    finally:
        client.images.remove(name, force=True)


def build_context(image: str, package: Path, crypto: Path) -> io.BytesIO:
    launchers = package / "kernel-launchers"
    written = io.BytesIO()
    script = (launchers / "bootstrap" / "bootstrap-kernel.sh").read_text()
    texts = {
        "Dockerfile": DOCKERFILE.format(image=image),
        "bootstrap.sh": Template(script).safe_substitute(install_dir="/usr/local/bin"),
    }
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, text in texts.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o755
            archive.addfile(entry, io.BytesIO(text.encode()))
        # Put together as by `jupyter image-bootstrap`: the python folder has a stub of the second.
        for part in ("python/scripts/launch_ipykernel.py", "shared/scripts/server_listener.py"):
            archive.add(launchers / part, f"launchers/python/scripts/{Path(part).name}")
        archive.add(crypto, "Cryptodome")
    written.seek(0)
    return written


def main() -> int:
    if sys.argv[1:2] == ["--inside"]:
        running.run(lambda: inside(*sys.argv[2:]))
        return 0
    parser = running.parser("gateway.py", __doc__, rounds=7)
    parser.add_argument("--image", default=IMAGE, help=f"with ipykernel in it (default: {IMAGE})")
    parser.add_argument(
        "--python", help=f"an interpreter that has {PACKAGE} (default: a new environment)"
    )
    arguments = parser.parse_args()
    config: dict[str, Any] = {"image": arguments.image}
    columns = [
        Column(name="local", provisioner=LOCAL),
        Column(name="container", provisioner=OURS, config=config),
    ]
    results = running.run(lambda: measure(arguments, columns))
    names = ["local", "container", "gateway"]
    table = report.rows(results.samples, rounds.MEASURES, names)
    told = report.facts(arguments.rounds, results.inside)
    figures = report.as_json(results.samples, rounds.MEASURES, names)
    running.tell(arguments, {"": table}, told, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
