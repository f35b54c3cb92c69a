"""What jupyter_client asks of a provisioner, as far as it can be seen without an engine."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning import KernelProvisionerBase, LocalProvisioner
from jupyter_client.provisioning.factory import KernelProvisionerFactory as Factory

from container_provisioner.container_process import ContainerProcess
from container_provisioner.errors import ConfigurationError, KernelNotAdoptable
from container_provisioner.provisioner import ContainerProvisioner

KERNEL_ID = "6f9619ff-8b86-d011-b42d-00c04fc964ff"
MEMBERS = {
    name
    for base in (KernelProvisionerBase, LocalProvisioner)
    for name in (*vars(base), *base.__annotations__)
    if not name.startswith("_")
}
METHODS = sorted(
    name for name in MEMBERS if inspect.isfunction(getattr(LocalProvisioner, name, None))
)
MakeProvisioner = Callable[..., ContainerProvisioner]


@pytest.fixture
def factory() -> Factory:
    Factory.clear_instance()
    return Factory.instance()


@pytest.fixture
def provisioner(kernelspec: Callable[..., str], factory: Factory) -> MakeProvisioner:
    """As a kernel manager makes its provisioner, from a kernelspec on disk."""

    def make(
        name: str = "contained", *, spec: dict[str, Any] | None = None, **stanza: Any
    ) -> ContainerProvisioner:
        manager = KernelManager(kernel_name=kernelspec(name, spec=spec, **stanza))
        return factory.create_provisioner_instance(KERNEL_ID, manager.kernel_spec, manager)

    return make


def test_nothing_is_left_to_the_local_provisioner_that_concerns_a_process() -> None:
    own = {**vars(ContainerProcess), **vars(ContainerProvisioner)}
    assert set(METHODS) - own.keys() == set()
    assert isinstance(own["has_process"], property)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_called_as_the_local_provisioners(name: str) -> None:
    ours, theirs = getattr(ContainerProvisioner, name), getattr(LocalProvisioner, name)
    mine = list(inspect.signature(ours).parameters.values())
    other = list(inspect.signature(theirs).parameters.values())
    assert [p.kind for p in mine] == [p.kind for p in other]
    assert [p.default for p in mine] == [p.default for p in other]
    by_name = [p.name for p in mine if name != "resolve_path"]  # theirs differ among themselves
    assert by_name == [p.name for p in other if name != "resolve_path"]
    assert inspect.iscoroutinefunction(ours) is inspect.iscoroutinefunction(theirs)


def test_resolve_path_is_named_as_in_the_base_class() -> None:
    assert inspect.signature(ContainerProvisioner.resolve_path).parameters.keys() == (
        inspect.signature(KernelProvisionerBase.resolve_path).parameters.keys()
    )


def test_found_by_entry_point(factory: Factory) -> None:
    entry = factory.get_provisioner_entries()["container-provisioner"]
    assert entry == "container_provisioner.provisioner:ContainerProvisioner"


def test_a_kernelspec_names_it(factory: Factory, kernelspec: Callable[..., str]) -> None:
    spec = KernelSpecManager().get_kernel_spec(kernelspec(memory_limit="1g"))
    assert factory.is_provisioner_available(spec)
    made = factory.create_provisioner_instance(KERNEL_ID, spec, KernelManager())
    assert isinstance(made, ContainerProvisioner)
    assert (made.kernel_id, made.kernel_spec, made.memory_limit) == (KERNEL_ID, spec, "1g")


def test_a_variable_names_it_for_every_other_kernelspec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_DEFAULT_PROVISIONER_NAME", "container-provisioner")
    Factory.clear_instance()
    try:
        factory = Factory.instance()
        spec = KernelSpec(argv=["k"])
        assert factory.is_provisioner_available(spec)
        made = factory.create_provisioner_instance(KERNEL_ID, spec, KernelManager())
        assert isinstance(made, ContainerProvisioner)
    finally:
        Factory.clear_instance()


def test_config_comes_from_the_managers_application(factory: Factory) -> None:
    manager = KernelManager()
    manager.config.ContainerProvisioner.image = "kernel:1"
    made = factory.create_provisioner_instance(
        KERNEL_ID,
        KernelSpec(
            argv=["k"],
            metadata={"kernel_provisioner": {"provisioner_name": "container-provisioner"}},
        ),
        manager,
    )
    assert isinstance(made, ContainerProvisioner)
    assert made.image == "kernel:1"


def test_a_wrong_stanza_is_refused_before_anything_starts(provisioner: MakeProvisioner) -> None:
    with pytest.raises(Exception, match="Did you mean 'memory_limit'"):
        provisioner(memory_limits="1g")


def test_connection_info_is_each_instances_own(provisioner: MakeProvisioner) -> None:
    one, other = provisioner("one"), provisioner("other")
    one.connection_info["ip"] = "1.2.3.4"
    assert other.connection_info == {}
    assert KernelProvisionerBase.connection_info == {}


async def test_everything_may_be_called_before_a_launch(provisioner: MakeProvisioner) -> None:
    """F3: front ends clean up at odd times."""
    made = provisioner()
    assert (made.has_process, await made.poll(), await made.wait()) == (False, 0, 0)
    for restart in (True, False, False):
        await made.send_signal(2)
        await made.terminate(restart=restart)
        await made.kill(restart=restart)
        await made.shutdown_requested(restart=restart)
        await made.cleanup(restart=restart)
    assert made.resolve_path("x") is None
    assert made.get_shutdown_wait_time(3.5) == 3.5
    assert made.get_stable_start_time(7.5) == 7.5
    assert json.loads(json.dumps(await made.get_provisioner_info()))["kernel_id"] == KERNEL_ID


ENV = {"GREETING": "hello ${NAME_OF_ALL}", "KEPT": "${UNKNOWN_VARIABLE} $$"}


async def test_pre_launch_selects_the_environment_and_fills_in_templates(
    provisioner: MakeProvisioner,
) -> None:
    """F9, F10: the templates see the server's environment; the kernel does not."""
    made = provisioner(spec={"env": ENV}, env={"MINE": "1"}, env_passthrough=["PASSED_*"])
    server = {"NAME_OF_ALL": "world", "TOKEN": "t", "PATH": "/bin", "PASSED_ON": "p"}
    framework = {"JPY_PARENT_PID": "1", "JPY_SESSION_NAME": "a.ipynb", "KERNEL_USERNAME": "u"}
    made.parent._launch_args = {}
    kwargs = await made.pre_launch(env={**server, **framework}, cwd="/x")
    assert kwargs["env"] == {
        "GREETING": "hello world",
        "JPY_SESSION_NAME": "a.ipynb",
        "KEPT": "${UNKNOWN_VARIABLE} $",
        "KERNEL_USERNAME": "u",
        "MINE": "1",
        "PASSED_ON": "p",
    }
    assert kwargs["cwd"] == "/x"


async def test_pre_launch_without_a_manager_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="needs a kernel manager"):
        await ContainerProvisioner(kernel_spec=KernelSpec(argv=["k"])).pre_launch()


BODY: dict[str, Any] = {
    "identity": {
        "kernel_id": KERNEL_ID,
        "launch_id": "l",
        "container_id": "c",
        "container_name": "n",
        "image": "i",
        "argv": ["k"],
        "spec_digest": "d",
    },
    "engine_url": "unix:///nowhere/engine.sock",
    "directory": "/",
}


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"container": None},
        {"container": {}},
        {"container": {**BODY, "identity": []}},
        {"container": {**BODY, "identity": {"kernel_id": KERNEL_ID}}},
        {"container": {**BODY, "identity": {**BODY["identity"], "launch_id": 5}}},
        {"container": BODY, "kernel_id": None, "connection_info": {}},
        {"container": BODY, "kernel_id": KERNEL_ID},
        {"container": BODY, "kernel_id": KERNEL_ID, "connection_info": {"ip": "x"}},
        {"container": BODY, "kernel_id": KERNEL_ID, "connection_info": {"key": "k"}},
    ],
)
async def test_malformed_info_is_refused_and_changes_nothing(
    provisioner: MakeProvisioner, info: dict[str, Any]
) -> None:
    """F5. The last one is whole but for its directory, which is none of ours to remove."""
    made = provisioner()
    with pytest.raises(KernelNotAdoptable):
        await made.load_provisioner_info(info)
    assert (made.has_process, made.connection_info) == (False, {})
