"""The settings as traits: from the stanza's ``config``, the application's config, the environment.

In that order: what a kernelspec's stanza says wins over ``c.ContainerProvisioner.…``, which wins
over ``CONTAINER_PROVISIONER_…``, which wins over the default. A value that makes no sense is
refused when it is read, by the trait's name.
"""

from __future__ import annotations

import difflib
from typing import Any

from traitlets import TraitError, Unicode
from traitlets.config import LoggingConfigurable

from .engine.create_body import check_extra
from .policy import PROFILES, Settings, choose_network, choose_transport
from .spec import Limits
from .store import private_root
from .topology import OwnContainer, topology_of
from .trait_types import (
    Choice,
    Cores,
    Count,
    Fields,
    Gpus,
    Mounts,
    Names,
    Seconds,
    Size,
    Span,
    Switch,
    Text,
    User,
    parse_mount,
    parse_size,
)

# What a provisioner is made with besides its stanza.
_FROM_THE_FACTORY = ("config", "kernel_id", "kernel_spec", "log", "parent")


class ContainerSettings(LoggingConfigurable):
    """The traits. `settings` reads them all, once for each launch."""

    image = Text(
        "",
        config=True,
        help="""
        Image that the kernel runs in, such as ``quay.io/jupyter/scipy-notebook``. It
        needs a kernel and nothing else; its ENTRYPOINT is not run.

        Empty, the default, is the host's own environment: the interpreter and packages that a
        local kernel would have, read-only, and nothing of the home directory.
        """,
    )
    engine = Choice(
        ["auto", "docker", "podman"],
        default_value="auto",
        config=True,
        help="""
        Container engine. ``auto``, the default, takes the first that answers: Docker at
        ``DOCKER_HOST``, the current docker context or its usual sockets, then Podman at
        ``CONTAINER_HOST`` or its sockets.
        """,
    )
    engine_url = Text(
        "",
        config=True,
        help="""
        The engine's address; no other is then tried: ``unix:///var/run/docker.sock``,
        ``tcp://HOST:2376?tls=FOLDER`` (with ca.pem, cert.pem and key.pem in the folder), or
        ``ssh://USER@HOST``. Empty, the default, looks where ``engine`` says.
        """,
    )
    engine_host = Text(
        "",
        config=True,
        help="""
        The address at which this machine reaches the ports of the engine's host, when that is
        another one. Empty, the default, is the host in the engine's URL.
        """,
    )
    allow_plaintext = Switch(
        False,
        config=True,
        help="""
        Let a kernel on another host be used without encryption, when it cannot encrypt (its
        kernelspec does not name ``curve`` in ``supported_encryption``). Default False: such a
        kernel is refused. Its messages would be signed, and can be read on the way.
        """,
    )
    profile = Choice(
        sorted(PROFILES),
        default_value="sandbox",
        config=True,
        help="""
        A set of settings. ``sandbox``, the default: no network, the notebook's folder read-only,
        root filesystem read-only, home and ``/tmp`` in memory and gone at a restart. ``dev``:
        bridge network, the notebook's folder read-write, a root filesystem that can be written.

        Both drop all capabilities, forbid new privileges, are not root, and bound processes and
        logs. ``network`` and ``workspace`` override the profile one by one.
        """,
    )
    transport = Choice(
        ["auto", "ipc", "tcp", "network"],
        default_value="auto",
        config=True,
        help="""
        How messages reach the kernel. ``ipc``: unix sockets in a private directory, without any
        network. ``tcp``: for kernels that do not speak ipc, over ports on the host's loopback, or
        in the network ``internal``; for an engine on another host over ports of that host,
        encrypted. ``network``: the container's address in ``network``. ``auto``, the default, is
        ``ipc``, and ``tcp`` for an engine on another host. On this host the messages of ``tcp``
        and ``network`` are signed but not encrypted unless ``transport_encryption`` is on. For a
        server that is itself in a container, ``auto`` is ``ipc`` when its runtime directory is on a
        mount, else ``network``, which ``tcp`` means there too: encrypted if the kernel can.
        """,
    )
    network = Text(
        "",
        config=True,
        help="""
        The network that the kernel joins: ``none``, ``internal``, ``bridge``, or the name of one
        of the engine's. Empty, the default, is the profile's: ``none`` in ``sandbox``
        (``internal`` with ``transport`` ``tcp``), ``bridge`` in ``dev``.

        ``internal`` has no way out and none to another kernel, and knows no names but those of
        the containers in it. One way is left open: the kernel reaches what this machine serves on
        all its addresses (``0.0.0.0``), not what is on loopback only. No option of Docker's closes
        it; this rule of the firewall does:
        ``iptables -I INPUT -i jupyter-kernels -m conntrack --ctstate NEW -j REJECT``. ``internal``
        needs an engine that sets up its own firewall, as engines do by default, and that is not
        rootless. With ``bridge`` and others the kernel reaches what this machine reaches. On an
        engine on another host, ``internal`` is a network whose packets nobody answers: their
        sender's address is the container's own, which is not known outside that host. For a server
        that is itself in a container, ``transport`` ``network`` takes by default the one that its
        container is in, of several the one without a way out, and never that by which it reaches
        the engine.
        """,
    )
    workspace = Choice(
        ["", "none", "ro", "rw"],
        default_value="",
        config=True,
        help="""
        Whether the notebook's folder is mounted, at its own path, as the kernel's working
        directory: ``none``, ``ro`` or ``rw``. Empty, the default, is the profile's: ``ro`` in
        ``sandbox``, ``rw`` in ``dev``. A home or system directory is mounted only when this is
        set; ``/`` never.
        """,
    )
    user = User(
        "auto",
        config=True,
        help="""
        Who the kernel is. ``auto``, the default: the user who runs the server; when that is root,
        the owner of a workspace that is mounted read-write, else the image's user, else nobody.
        ``image``: the image's own user. Or a numeric ``uid`` or ``uid:gid``.
        """,
    )
    allow_root = Switch(
        False,
        config=True,
        help="""
        Let ``user`` be root. Default False. Root in the container owns what it writes into a
        workspace as root of the host does, and has an easier way out of a flawed engine.
        """,
    )
    memory_limit = Size(
        "2g",
        config=True,
        help="""
        Memory a kernel may use before it is killed, in bytes: ``512m``, ``2g``. Default ``2g``.

        The kernel then dies with exit code 137, and the reason names this limit. It covers the
        files in the kernel's home and ``/tmp`` too; swap is not used. Empty means no limit: one
        notebook can then exhaust the host.
        """,
    )
    cpu_limit = Cores(
        0.0,
        config=True,
        help="""
        Processors a kernel may use at once, such as ``1.5``. Default 0: no limit. Above it the
        kernel is slowed, not killed.
        """,
    )
    pids_limit = Count(
        512,
        config=True,
        help="""
        Processes and threads a kernel may have. Default 512. Above it new ones fail, which is
        what stops a fork bomb. 0 means no limit.
        """,
    )
    shm_size = Size(
        "64m",
        config=True,
        help="""
        Size of ``/dev/shm`` in bytes, default ``64m``. Data loaders that share memory between
        processes need more; what is used counts towards ``memory_limit``.
        """,
    )
    gpus = Gpus(
        "",
        config=True,
        help="""
        GPUs for the kernel: ``all``, a number, or ``device=ID[,ID…]``, as ``docker run --gpus``.
        Default none. The engine needs the vendor's container toolkit.
        """,
    )
    runtime = Text(
        "",
        config=True,
        help="""
        OCI runtime of the engine's, such as ``runsc`` (gVisor) or ``kata``. Default: the
        engine's own; name that one too when it is not runc or crun, which bring loopback up in a
        container without a network. Without that runtime nothing is started.
        """,
    )
    mounts = Mounts(
        trait=Unicode(),
        config=True,
        help="""
        Further paths of the host, each ``SOURCE:TARGET`` (read-only) or ``SOURCE:TARGET:rw``.
        Default none. The source has to exist; the engine's own socket is refused. For a server that
        is itself in a container the source is a path there, on one of its mounts.
        """,
    )
    env = Fields(
        key_trait=Unicode(),
        value_trait=Unicode(),
        config=True,
        help="""
        Environment variables for the kernel. Default none. They are handed over in a private
        file and do not show in ``docker inspect``; the kernelspec's own ``env`` likewise.
        """,
    )
    env_passthrough = Names(
        trait=Unicode(),
        config=True,
        help="""
        Names, or patterns such as ``AWS_*``, of the server's environment variables that the
        kernel gets. Default none: only the locale, the session's name and ``KERNEL_*`` pass.
        """,
    )
    restart_mode = Choice(
        ["in-place", "recreate"],
        default_value="in-place",
        config=True,
        help="""
        What a restart of the kernel keeps. ``in-place``, the default: the container, with the
        files and packages that were put into its root filesystem (memory and home in memory are
        fresh). ``recreate``: nothing, a new container.
        """,
    )
    warm_pool_size = Count(
        0,
        config=True,
        help="""
        Containers with a kernel that waits, which a Jupyter Server keeps so that the next start
        takes a tenth of the time. Default 0: none. Each uses about 50 MiB of memory while it waits
        and serves one kernel, ever.

        Only what is exactly the same is taken: a notebook in another folder, which is mounted,
        starts cold and has a pool from then on. Python kernels (ipykernel) only, without
        ``transport_encryption``; all others start cold.
        """,
    )
    on_server_exit = Choice(
        ["stop", "keep"],
        default_value="stop",
        config=True,
        help="""
        What becomes of the kernel when the process that started it ends, however it ends, without
        shutting it down. ``stop``, the default: it is removed, within seconds. ``keep``: it goes
        on, what it prints is recorded, and the next server with the same root takes it over.
        """,
    )
    max_idle = Span(
        0.0,
        config=True,
        help="""
        Seconds for which a kept kernel may do nothing while it has no server, before it is removed.
        Default 0: for ever. While a server has it, that server's own culling counts.
        """,
    )
    pull_policy = Choice(
        ["missing", "always", "never"],
        default_value="missing",
        config=True,
        help="""
        When to pull ``image``: when it is ``missing``, the default; ``always``, which asks the
        registry at every start; ``never``.
        """,
    )
    pull_timeout = Seconds(
        600.0,
        config=True,
        help="Seconds that a pull may take before the start is given up. Default 600.",
    )
    start_timeout = Seconds(
        60.0,
        config=True,
        help="""
        Seconds that a kernel may take from the request until it listens, a pull not counted.
        Default 60. Then the container is removed and the error holds its last output.
        """,
    )
    extra_create_options = Fields(
        config=True,
        help="""
        Fields merged into the body of the engine's ``POST /containers/create``, such as
        ``{"HostConfig": {"Ulimits": […]}}``. Default none. Fields that a trait stands for, and
        those that make up the sandbox, are refused.
        """,
    )

    def __init__(self, **kwargs: Any) -> None:
        settings = type(self).class_trait_names(config=True)
        for name in kwargs.keys() - {*settings, *_FROM_THE_FACTORY}:
            close = difflib.get_close_matches(name, settings, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise TraitError(f"The kernelspec's stanza has no setting {name!r}.{hint}")
        super().__init__(**kwargs)

    def settings(self, engine_url: str = "", own: OwnContainer | None = None) -> Settings:
        """All traits, profile applied, for the engine at that URL; without one, on this host.

        `own` is the engine's container that this process runs in. Raises TraitError, or
        `ConfigurationError` when two settings contradict each other.
        """
        profile = PROFILES[self.profile]
        topology = topology_of(
            engine_url,
            engine_host=self.engine_host,
            own=own,
            private=str(private_root()) if own is not None else "",
        )
        check_extra(self.extra_create_options)
        transport = choose_transport(self.transport, topology)
        settings = Settings(
            image=self.image,
            engine=self.engine,
            engine_url=self.engine_url,
            topology=topology,
            allow_plaintext=self.allow_plaintext,
            profile=self.profile,
            transport=transport,
            network=choose_network(self.network, transport, profile, topology),
            workspace=self.workspace or profile.workspace,
            workspace_named=bool(self.workspace),
            read_only=profile.read_only,
            user=self.user,
            allow_root=self.allow_root,
            limits=Limits(
                memory=parse_size(self.memory_limit),
                cpus=self.cpu_limit or None,
                pids=self.pids_limit or None,
                shm_size=parse_size(self.shm_size),
            ),
            gpus=self.gpus,
            runtime=self.runtime,
            mounts=tuple(parse_mount(text) for text in self.mounts),
            env=self.env,
            env_passthrough=tuple(self.env_passthrough),
            restart_mode=self.restart_mode,
            warm_pool_size=self.warm_pool_size,
            on_server_exit=self.on_server_exit,
            max_idle=self.max_idle,
            pull_policy=self.pull_policy,
            pull_timeout=self.pull_timeout,
            start_timeout=self.start_timeout,
            extra_create_options=self.extra_create_options,
        )
        settings.check()
        return settings
