"""The host's own environment as a kernel's root filesystem: no image, no build, no registry.

A tiny image of empty directories, and read-only mounts of what a program of this host needs to
run: ``/usr``, the installation that holds the kernel's interpreter, and single files of ``/etc``.
The kernel sees the packages its user has, and nothing of their home directory.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from . import labels
from .command import is_python
from .environment import HOME
from .errors import ConfigurationError
from .exits import log_tail
from .policy import KernelUser
from .spec import Mount
from .store import runtime_folder

# Read at run time by the loader, OpenSSL, fontconfig, BLAS (its libraries are alternatives), R and
# the C library. One by one, never all of /etc. Nor hosts, resolv.conf: those of the network.
ETC = ("ld.so.cache", "alternatives", "fonts", "ssl/certs", "ssl/openssl.cnf", "ca-certificates",
       "localtime", "timezone", "nsswitch.conf", "R", "mime.types", "python3")  # fmt: skip

# Where a distribution keeps programs. On most these are links into /usr; a real directory is
# mounted. /sbin is neither: the engine mounts its init there, so it must be a real, empty one.
_ROOT_DIRS = ("bin", "lib", "lib32", "lib64", "libx32")
# ctypes.util.find_library calls it by this path.
_LDCONFIG = "/sbin/ldconfig"

_EMPTY = ("dev", "etc", "home", "proc", "run", "sbin", "sys", "tmp", "usr", "var", "var/tmp")

HOST_IMAGE = "container-provisioner/host-environment"
HOST_TITLE = "host environment"  # for people

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"

PROBE_SECONDS = 20

_PROBE = """
import json, site, sys
user = site.getusersitepackages() if site.ENABLE_USER_SITE else ""
print(json.dumps([sys.executable, sys.prefix, sys.base_prefix, sys.exec_prefix, user]))
"""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program of this host, and the directories it cannot run without."""

    path: str
    prefixes: tuple[str, ...]
    user_site: str = ""


def find_program(name: str) -> Program:
    """Locate the program that a kernelspec names. Blocks: it may ask an interpreter.

    Raises `ConfigurationError` when this host has no such program.
    """
    found = shutil.which(name)
    if found is None:
        raise ConfigurationError(
            f"This host has no program {name!r}, and no image is configured. "
            "Correct the kernelspec's argv, or set image to one that holds the kernel."
        )
    path = os.path.abspath(found)  # noqa: PTH100 - not resolved: a venv's python is a link
    if not is_python(path):
        real = Path(path).resolve()
        prefix = real.parent.parent if real.parent.name == "bin" else real.parent
        return Program(path=path, prefixes=(str(prefix),))
    return _probe_python(path, Path(path).stat().st_mtime)


@lru_cache(maxsize=64)
def _probe_python(path: str, changed: float) -> Program:
    """Ask an interpreter where it lives. Once for each, until it is replaced."""
    keep = {"HOME", "PATH", "PYENV_VERSION", "PYENV_ROOT", "LANG"}
    try:
        answer = subprocess.run(  # noqa: S603 - the kernelspec's own interpreter
            [path, "-c", _PROBE],
            capture_output=True,
            text=True,
            check=True,
            timeout=PROBE_SECONDS,
            stdin=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name in keep},
        )
        executable, *prefixes, user_site = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as exc:
        stderr = getattr(exc, "stderr", None)
        words = log_tail(stderr if isinstance(stderr, str) and stderr.strip() else str(exc))
        raise ConfigurationError(f"The interpreter {path!r} does not run: {words}") from exc
    return Program(
        path=executable,
        prefixes=tuple(dict.fromkeys(prefixes)),
        user_site=user_site if user_site and Path(user_site).is_dir() else "",
    )


def host_mounts(program: Program) -> tuple[Mount, ...]:
    """Read-only mounts under which the program runs as it does on the host.

    Raises `ConfigurationError` for a program whose installation is the whole root, or holds a home
    directory or Jupyter's runtime directory: mounting that would show the kernel everything.
    """
    changed = _changed(("/", "/etc", "/etc/ssl", *program.prefixes))
    return _host_mounts(program, Path.home(), runtime_folder(), changed)


@lru_cache(maxsize=64)
def _host_mounts(
    program: Program, home: Path, runtime: Path, changed: tuple[int, ...]
) -> tuple[Mount, ...]:
    """Fifty looks at files. Again when something came or went in one of their folders."""
    mounts = [Mount(source="/usr", target="/usr")]
    for name in _ROOT_DIRS:
        if Path("/", name).is_dir() and not Path("/", name).is_symlink():
            mounts.append(Mount(source=f"/{name}", target=f"/{name}"))
    if Path(_LDCONFIG).exists():
        mounts.append(Mount(source=str(Path(_LDCONFIG).resolve()), target=_LDCONFIG))
    for name in ETC:
        path = Path("/etc", name)
        if path.exists():
            mounts.append(Mount(source=str(path.resolve()), target=str(path)))
    for prefix in (*program.prefixes, program.user_site):
        if not prefix or any(Path(prefix).is_relative_to(mount.target) for mount in mounts):
            continue
        source = Path(prefix).resolve()
        for what, private in (("a home", home), ("Jupyter's runtime", runtime)):
            if private.resolve().is_relative_to(source):
                raise ConfigurationError(
                    f"The program {program.path!r} is installed in {prefix!r}, which holds {what} "
                    "directory and is not mounted into a kernel. Install it elsewhere (a virtual "
                    "environment will do), or set image."
                )
        mounts.append(Mount(source=str(source), target=prefix))
    return tuple(mounts)


def packages_version(program: Program) -> str:
    """Changes when packages are installed or removed: when each of the folders with them changed.

    A process that has imported some of the old ones would be a mixture.
    """
    libraries = tuple(f"{prefix}/lib" for prefix in (*program.prefixes, "/usr", "/usr/local"))
    folders = _package_folders(program.user_site, libraries, _changed(libraries))
    return json.dumps(dict(zip(folders, _changed(folders), strict=True)))


@lru_cache(maxsize=64)
def _package_folders(
    user_site: str, libraries: tuple[str, ...], changed: tuple[int, ...]
) -> tuple[str, ...]:
    patterns = ("python3*/site-packages", "python3*/dist-packages")
    found = {
        str(path)
        for library in libraries
        for pattern in patterns
        for path in Path(library).glob(pattern)
    }
    return tuple(sorted(found | ({user_site} if user_site else set())))


def _changed(folders: Iterable[str]) -> tuple[int, ...]:
    """When each was, in nanoseconds; 0 for what is not there."""
    times = []
    for folder in folders:
        try:
            times.append(os.stat(folder).st_mtime_ns)  # noqa: PTH116
        except OSError:
            times.append(0)
    return tuple(times)


def host_variables(program: Program) -> dict[str, str]:
    """PATH with the program's own directory first, and where Python finds user packages."""
    folder = str(Path(program.path).parent)
    folders = [folder] if folder not in SYSTEM_PATH.split(":") else []
    variables = {"PATH": ":".join([*folders, SYSTEM_PATH])}
    if program.user_site:
        # …/lib/python3.X/site-packages: HOME is another one in the container.
        variables["PYTHONUSERBASE"] = str(Path(program.user_site).parents[2])
    return variables


def account_files(user: KernelUser) -> dict[str, str]:
    """``passwd`` and ``group`` that name the kernel's user and nobody of the host."""
    users = "root:x:0:0:root:/root:/usr/sbin/nologin\n"
    groups = "root:x:0:\n"
    if user.uid != 0:
        users += f"kernel:x:{user.uid}:{user.gid}:kernel:{HOME}:/bin/sh\n"
    if user.gid != 0:
        groups += f"kernel:x:{user.gid}:\n"
    return {"passwd": users, "group": groups}


@lru_cache(maxsize=1)
def empty_image() -> tuple[str, bytes]:
    """The image of empty directories: its name, which says what is in it, and its one layer."""
    links = {
        name: os.readlink(f"/{name}")  # noqa: PTH115 - as it stands, relative or not
        for name in _ROOT_DIRS
        if Path("/", name).is_symlink()
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in (*_EMPTY, *(n for n in _ROOT_DIRS if n not in links)):
            if name in _EMPTY or Path("/", name).is_dir():
                # runc gives what it mounts on a directory that directory's mode.
                mode = 0o1777 if name.endswith("tmp") else 0o755
                archive.addfile(_entry(name, tarfile.DIRTYPE, mode))
        for name, target in links.items():
            link = _entry(name, tarfile.SYMTYPE, 0o777)
            link.linkname = target
            archive.addfile(link)
    layer = buffer.getvalue()
    digest = hashlib.sha256(layer).hexdigest()[:12]
    return f"{HOST_IMAGE}:{digest}", layer


def home_archive(user: KernelUser) -> bytes:
    """A tar archive of the kernel's home directory, for a root filesystem that can be written."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        home = _entry(HOME.lstrip("/"), tarfile.DIRTYPE, 0o700)
        home.uid, home.gid = user.uid, user.gid
        archive.addfile(home)
    return buffer.getvalue()


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = kind, mode
    return entry


IMAGE_LABELS = {labels.HOST_ENVIRONMENT: "1"}
