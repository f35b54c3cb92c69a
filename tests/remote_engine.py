"""An engine on "another host": in a network namespace of its own, reached over TLS.

A pair of interfaces stands for the wire, and can be cut. Its containers have a bridge, a firewall
and published ports of that namespace: nothing of it is on this host's loopback.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import docker
import pytest
import trustme
from docker.tls import TLSConfig

from .docker_daemon import START_SECONDS, DockerDaemon
from .parallel import worker


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@dataclass(kw_only=True)
class Wire:
    """A network namespace, the interface here that leads to it, and the addresses of both ends."""

    namespace: str
    interface: str
    here: str
    there: str

    def cut(self) -> None:
        run("ip", "link", "set", self.interface, "down")

    def mend(self) -> None:
        run("ip", "link", "set", self.interface, "up")


def free_subnet(beginning: str) -> str:
    """``10.213.7`` of ``10.213``: no address of this host is in it. Of the processes of one run,
    each begins to look at another place."""
    taken = subprocess.check_output(["ip", "-4", "-o", "address"], text=True)
    subnets = (f"{beginning}.{number}" for number in range(20 * worker(), 256))
    return next(subnet for subnet in subnets if f" {subnet}." not in taken)


@contextmanager
def wire(number: int) -> Iterator[Wire]:
    """`number` tells several apart."""
    name = f"cpr{os.getpid() % 100000}-{number}"
    subnet = free_subnet("10.213")
    made = Wire(namespace=name, interface=f"{name}h", here=f"{subnet}.1", there=f"{subnet}.2")
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", made.interface, "type", "veth", "peer", "eth0", "netns", name)
        run("ip", "address", "add", f"{made.here}/24", "dev", made.interface)
        made.mend()
        inside = ("ip", "-n", name)
        run(*inside, "address", "add", f"{made.there}/24", "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "route", "add", "default", "via", made.here)
        yield made
    finally:
        run("ip", "netns", "delete", name)  # and with it the pair of interfaces


class RemoteEngine(DockerDaemon):
    """A docker daemon in the namespace. `url` is what ``engine_url`` takes."""

    def __init__(self, base: Path, wire: Wire, hostname: str = "elsewhere") -> None:
        super().__init__(base)
        self.wire, self.hostname = wire, hostname
        self.address = f"tcp://{wire.there}:2376"
        self.certificates = base / "client"
        authority = trustme.CA()
        for folder, identity in (
            (base / "server", wire.there),
            (self.certificates, "someone@example.org"),
        ):
            folder.mkdir()
            certificate = authority.issue_cert(identity)
            authority.cert_pem.write_to_path(str(folder / "ca.pem"))
            certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
            certificate.private_key_pem.write_to_path(str(folder / "key.pem"))

    @property
    def url(self) -> str:
        return f"{self.address}?tls={quote(str(self.certificates))}"

    def client(self) -> docker.DockerClient:
        ca, certificate, key = (
            str(self.certificates / name) for name in ("ca.pem", "cert.pem", "key.pem")
        )
        tls = TLSConfig(client_cert=(certificate, key), ca_cert=ca, verify=True)
        client = docker.DockerClient(base_url=self.address, tls=tls, version="1.41")
        client.api.trust_env = False  # a REQUESTS_CA_BUNDLE would take the authority's place
        return client

    def command(self) -> list[str]:
        server = self.base / "server"
        return [
            *("nsenter", f"--net=/var/run/netns/{self.wire.namespace}"),
            *("unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', self.hostname),
            "dockerd",
            f"--host={self.address}",
            f"--host=unix://{self.base}/docker.sock",
            "--tlsverify",
            f"--tlscacert={server}/ca.pem",
            f"--tlscert={server}/cert.pem",
            f"--tlskey={server}/key.pem",
        ]

    def load(self, *images: str) -> None:
        """Have images of the engine that the other tests use."""
        here, there = docker.from_env(), self.client()
        try:
            for name in images:
                with tempfile.TemporaryFile() as archive:
                    for chunk in here.images.get(name).save(named=True):
                        archive.write(chunk)
                    archive.seek(0)
                    there.images.load(archive)
        finally:
            here.close()
            there.close()

    @contextmanager
    def over_ssh(self, patch: pytest.MonkeyPatch) -> Iterator[str]:
        """A URL by which ssh gets there, for as long as the context. The user's own ssh: a command
        of that name on the PATH, which has a configuration and a key of its own."""
        folder = self.base / "ssh"
        folder.mkdir()
        for name in ("host", "user"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
        (folder / "known").write_text(f"{self.wire.there} {(folder / 'host.pub').read_text()}")
        (folder / "server").write_text(
            f"ListenAddress {self.wire.there}\nHostKey {folder}/host\nUsePAM no\n"
            f"AuthorizedKeysFile {folder}/user.pub\nStrictModes no\nPidFile none\n"
        )
        command = folder / "bin/ssh"
        command.parent.mkdir()
        options = f"-F none -i {folder}/user -o UserKnownHostsFile={folder}/known"
        command.write_text(f'#!/bin/sh\nexec /usr/bin/ssh {options} "$@"\n')
        command.chmod(0o755)
        patch.setenv("PATH", str(command.parent), prepend=os.pathsep)
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd locks itself up
        server = subprocess.Popen(
            [
                *("nsenter", f"--net=/var/run/netns/{self.wire.namespace}"),
                *("/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "server")),
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            yield f"ssh://root@{self.wire.there}{self.base}/docker.sock"
        finally:
            server.terminate()
            server.wait(timeout=START_SECONDS)
            shutil.rmtree(folder)


@contextmanager
def remote_engine(number: int = 1) -> Iterator[RemoteEngine]:
    """Runs for as long as the context; all its containers and images go with it."""
    assert os.getuid() == 0, "a network namespace needs root"
    base = Path(tempfile.mkdtemp(prefix="cpr-", dir="/tmp"))
    with wire(number) as connection:
        engine = RemoteEngine(base, connection)
        try:
            engine.start()
            yield engine
            engine.remove_containers()
        finally:
            engine.stop()
            engine.remove_files()
