"""A kernel that is started as any front end would start it, and looked at from both sides."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

from jupyter_client.kernelspec import NATIVE_KERNEL_NAME
from traitlets import TraitError

from ..errors import ConfigurationError, ContainerProvisionerError
from ..exits import format_size
from ..kernelspecs import PROVISIONER, SETTINGS, SWARM_PROVISIONER, Trial, trial, trial_manager
from ..policy import INTERNAL, Settings
from ..store import runtime_folder
from ..topology import SWARM, OwnContainer, topology_of
from .finding import Finding
from .image import examine_image

# Code that writes two files, by the language that a kernelspec names.
_WRITES = {
    "python": ("open('written', 'w')", "import os; open(os.path.expanduser('~/.written'), 'w')"),
    "r": ("stopifnot(file.create('written'))", "stopifnot(file.create('~/.written'))"),
    "bash": ("touch written", "touch ~/.written"),
}
_SECONDS = 30.0


async def examine_kernel(
    kernel_name: str, engine_url: str, own: OwnContainer | None = None
) -> AsyncIterator[Finding]:
    """Of that kernelspec; for an empty name, of this host's Python with the settings of the
    environment. `engine_url` is the engine that is used where the kernelspec names none, and `own`
    its container that this process runs in.

    Its ``workspace`` is read-write here, whatever the kernelspec says, so that it can be seen whose
    files the kernel writes; but on another host there is none. Raises `NoSuchKernel`, and
    `ConfigurationError` for a kernelspec of another provisioner. Nothing is left.
    """
    kernel = trial_manager(kernel_name or NATIVE_KERNEL_NAME)
    spec: Any = kernel.kernel_spec
    stanza = spec.metadata.get("kernel_provisioner", {}) if kernel_name else {}
    provisioner = stanza.get("provisioner_name", "" if kernel_name else PROVISIONER)
    if provisioner not in SETTINGS:
        raise ConfigurationError(
            f"Kernelspec {kernel_name!r} does not name this provisioner in its metadata, so its "
            "kernels do not run in containers. 'jupyter container-kernel install' wraps it."
        )
    config = stanza.get("config", {})
    if not kernel_name and (where := _elsewhere(engine_url, own)):
        yield _not_there(where)
        return
    try:
        given = SETTINGS[provisioner](**config)
        url = given.engine_url or engine_url
        if provisioner == SWARM_PROVISIONER:
            url = SWARM + url.removeprefix(SWARM)
        settings = given.settings(url, own if url == engine_url else None)
    except (TraitError, ConfigurationError) as exc:
        yield Finding(
            subject="settings",
            outcome="problem",
            says=str(exc),
            cure=f"Correct the stanza in {spec.resource_dir}/kernel.json"
            if config
            else "Correct the variable CONTAINER_PROVISIONER_… that sets it.",
        )
        return
    for finding in _policy(settings):
        yield finding
    is_here = settings.topology.host_path(str(runtime_folder())) is not None
    workspace = "rw" if is_here else "none"
    config = {**config, "workspace": workspace, "on_server_exit": "stop"}
    spec.metadata["kernel_provisioner"] = {"provisioner_name": provisioner, "config": config}
    try:
        async with trial(kernel, settings.start_timeout) as tried:
            for finding in _answer(tried, settings):
                yield finding
            async for finding in _files(tried, spec.language.lower(), is_here=is_here):
                yield finding
    except ContainerProvisionerError as exc:
        yield Finding(subject="kernel", outcome="problem", says=str(exc))
    if settings.image:
        for finding in await examine_image(settings):
            yield finding


def _elsewhere(engine_url: str, own: OwnContainer | None) -> str:
    """Where the engine's containers are, if they cannot have this host's Python."""
    if engine_url.startswith(SWARM):
        return "they run on the nodes of a swarm"
    topology = topology_of(engine_url, own=own)
    return f"the engine is {topology.where}" if topology.is_remote else ""


def _not_there(where: str) -> Finding:
    return Finding(
        subject="kernel",
        outcome="note",
        says=f"none was tried: {where}, where this one's Python is not",
        cure="'jupyter container-kernel install IMAGE', and 'doctor' with the kernelspec it makes.",
    )


def _policy(settings: Settings) -> Iterator[Finding]:
    """What the settings let a kernel do; each step out of the sandbox is a note."""
    limits = settings.limits
    memory = format_size(limits.memory) if limits.memory else "any amount"
    root = "read-only" if settings.read_only else "that can be written"
    folder = "not there" if settings.topology.is_remote else settings.workspace
    yield Finding(
        subject="settings",
        outcome="ok",
        says=f"profile {settings.profile}: network {settings.network}, notebook's folder {folder}, "
        f"root filesystem {root}, {memory} of memory, "
        f"{limits.pids or 'any number of'} processes",
    )
    steps_out = (
        (
            settings.network not in ("none", INTERNAL),
            "the kernel reaches what this machine reaches (network)",
            "Set network to 'none' if it need not.",
        ),
        (settings.allow_root, "the kernel may be root (allow_root)", "Unset it if it need not."),
        (
            not limits.memory,
            "one notebook can use up this machine's memory (memory_limit)",
            "Set it, such as '2g'.",
        ),
        (not limits.pids, "nothing stops a fork bomb (pids_limit)", "Set it, such as 512."),
        (
            bool(settings.mounts),
            "further folders are mounted (mounts)",
            "Nothing to do if it needs them.",
        ),
    )
    for is_so, words, cure in steps_out:
        if is_so:
            yield Finding(subject="policy", outcome="note", says=words, cure=cure)


def _answer(tried: Trial, settings: Settings) -> Iterator[Finding]:
    facts = tried.facts
    yield Finding(
        subject="transport",
        outcome="ok",
        says=f"{facts.transport or 'ipc'}: {_why(tried, settings)}",
    )
    language = tried.info.get("language_info", {})
    yield Finding(
        subject="kernel",
        outcome="ok",
        says=f"{language.get('name', 'it')} {language.get('version', '')} answered after "
        f"{tried.seconds:.2f} s, in {facts.identity.image}",
    )


def _why(tried: Trial, settings: Settings) -> str:
    if settings.topology.own is not None:
        return settings.topology.describe(settings.transport, settings.network)
    if settings.topology.is_remote:
        encrypted = "encrypted" if tried.is_encrypted else "not encrypted (allow_plaintext)"
        where = f"the engine is {settings.topology.where}"
        if settings.topology.is_swarm:
            where = "on a node"
        return f"{where}, found at {tried.address}; {encrypted}"
    return "as the settings say" if settings.transport != "ipc" else "the engine is on this host"


async def _files(tried: Trial, language: str, *, is_here: bool) -> AsyncIterator[Finding]:
    """Whose a file is that the kernel writes, and whether its home takes one."""
    if language not in _WRITES:
        yield Finding(
            subject="files",
            outcome="note",
            says=f"not tried: no code for {language or 'it'}",
            cure="Nothing to do; see whose a file is that a notebook writes.",
        )
        return
    into_folder, into_home = _WRITES[language]
    if is_here:
        yield await _folder(tried, into_folder)
    if words := await _refusal(tried, into_home):
        yield Finding(
            subject="home",
            outcome="problem",
            says=f"the kernel's home cannot be written: {words}",
            cure="Let HOME in the image be a folder of its user's, or leave it unset.",
        )


async def _folder(tried: Trial, code: str) -> Finding:
    if words := await _refusal(tried, code):
        return Finding(
            subject="files",
            outcome="problem",
            says=f"the kernel cannot write into its notebook's folder: {words}",
            cure="Set user to the folder's owner, or let the engine map user ids as they are.",
        )
    return _owner((tried.folder / "written").stat())


async def _refusal(tried: Trial, code: str) -> str:
    reply = await tried.client.execute(code, reply=True, store_history=False, timeout=_SECONDS)
    content = reply["content"]
    return "" if content["status"] == "ok" else str(content.get("evalue") or content["status"])


def _owner(status: os.stat_result) -> Finding:
    uid = os.getuid()
    if uid in (0, status.st_uid):  # root's kernels are somebody else on purpose
        whose = "you" if status.st_uid == uid else f"uid {status.st_uid}"
        return Finding(
            subject="files", outcome="ok", says=f"what the kernel writes belongs to {whose}"
        )
    return Finding(
        subject="files",
        outcome="problem",
        says=f"what the kernel writes belongs to uid {status.st_uid}, and you are uid {uid}",
        cure="Let the engine map user ids as they are (no userns-remap), or set user.",
    )
