"""Kernels for the command line to list, on a fake engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from container_provisioner import labels
from container_provisioner.adoptable import AdoptableKernel
from container_provisioner.engine import find
from container_provisioner.engine.calls import Engine
from container_provisioner.handle import ContainerIdentity
from container_provisioner.spec import ContainerSpec, Limits
from container_provisioner.store import KernelDirectory, RecordStore, own_lease, place_id

from .fake_engine import FakeEngine

NOBODY = "0" * 16  # a lease that nobody holds


class Kernels:
    """Containers on a fake engine with all that their launch would have written down."""

    def __init__(self, fake: FakeEngine) -> None:
        self.fake = fake

    def add(
        self,
        kernel_id: str,
        *,
        argv: tuple[str, ...] = ("sleep", "300"),
        owner: str | None = None,
        place: str | None = None,
        uid: int = 0,
        run: bool = True,
        keep: bool = False,
        folder: str = "/notebooks",
    ) -> str:
        """`owner` is a lease; None is this process's. Returns the container's id."""
        lease, policy = own_lease().id if owner is None else owner, "keep" if keep else "stop"
        name, directory = labels.container_name(kernel_id), KernelDirectory.of(kernel_id)
        identity = ContainerIdentity(
            kernel_id=kernel_id,
            launch_id="a-launch",
            container_id="",
            container_name=name,
            image="an-image:1",
            argv=argv,
            spec_digest="",
            memory_limit=2**30,
            on_server_exit=policy,
        )
        facts = AdoptableKernel(
            engine_url=self.fake.url,
            identity=identity,
            directory=directory,
            cwd="/",
            mounts=(),
            kernel_name="contained",
            transport="ipc",
            on_server_exit=policy,
            folder=folder,
        )
        container = self.fake.create(
            ContainerSpec(
                name=name,
                image=self.fake.add_image("an-image:1"),
                argv=argv,
                network="none",
                limits=Limits(memory=2**30),
                labels={
                    **labels.kernel_labels(
                        kernel_id=kernel_id,
                        launch_id="a-launch",
                        kernel_name="contained",
                        uid=uid,
                        owner=lease,
                        place=place_id() if place is None else place,
                        on_server_exit=policy,
                    ),
                    labels.RECORD: facts.as_label(),
                },
            )
        )
        if run:
            self.fake.start(container)
        return container

    def record(self, kernel_id: str, container_id: str, owner: str) -> None:
        """As it is when `owner` has the kernel; empty is nobody."""
        info = self.fake.inspect(container_id)
        text = info.labels[labels.RECORD]
        facts = AdoptableKernel.from_label(text, container_id)
        RecordStore().write(
            kernel_id, {"kernel_id": kernel_id, "container": facts.as_json(), "owner": owner}
        )


@pytest.fixture(name="kernels")
def kernels_fixture(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernels]:
    """The engine that every command finds is a fake one."""
    fake = FakeEngine(url=f"unix://{runtime_dir}/fake.sock")
    monkeypatch.setenv("CONTAINER_PROVISIONER_ENGINE_URL", fake.url)
    known = Engine(fake)
    monkeypatch.setattr(find, "_engines", {fake.url: known})
    # A command closes the engines that it opened; this one is needed by the next, too.
    monkeypatch.setattr("container_provisioner.cli.asking.close_engines", lambda: None)
    yield Kernels(fake)
    fake.dispose()
    known.close()
