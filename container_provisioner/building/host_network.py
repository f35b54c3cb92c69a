"""How this host reaches the network, for what a build downloads: its proxies and authorities."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import ConfigurationError

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY")
AUTHORITIES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")  # the first that is set
DEBIAN_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")

# The file's name in the context of a build.
HOST_CA = "host-ca.crt"

_UNTRUSTED = re.compile(
    r"certificate verify failed|CERTIFICATE_VERIFY_FAILED|self.signed cert", re.I
)
_UNREACHABLE = re.compile(
    r"name resolution|could not resolve|network is unreachable|connection refused|timed out", re.I
)


@dataclass(frozen=True, kw_only=True)
class HostNetwork:
    """Both are for the time of a build only. Proxies may hold a password: nothing logs them."""

    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)  # as build arguments
    authorities: str = field(default="", repr=False)  # certificates in PEM; empty: the usual ones

    @classmethod
    def of(
        cls, environment: Mapping[str, str] = os.environ, usual: Path = DEBIAN_AUTHORITIES
    ) -> HostNetwork:
        """By the variables that pip, requests and OpenSSL know; in either case, as curl does.

        The authorities are read when a variable names them, and with a proxy, which may have some
        of its own, from where Debian keeps them all. Raises `ConfigurationError` when what a
        variable names cannot be read.
        """
        proxies = {
            name: environment[name]
            for upper in PROXIES
            for name in (upper, upper.lower())
            if environment.get(name)
        }
        named = next((name for name in AUTHORITIES if environment.get(name)), "")
        has_proxy = any(name.upper() != "NO_PROXY" for name in proxies)
        path = Path(environment[named]) if named else usual
        if not named and not (has_proxy and usual.exists()):
            return cls(proxies=proxies)
        try:
            # What people write between the certificates need not be UTF-8.
            authorities = path.read_text(encoding="utf-8", errors="replace")
        except OSError as exc:
            raise ConfigurationError(
                f"The certificate authorities for the build cannot be read: {exc}"
                + (f" ({named} names them)." if named else ".")
            ) from exc
        return cls(proxies=proxies, authorities=authorities)

    @property
    def proxy_is_here(self) -> bool:
        """Whether a proxy listens on this host's loopback, where only the host's network ends."""
        return any(
            _is_loopback(urlsplit(url if "//" in url else f"//{url}").hostname or "")
            for name, url in self.proxies.items()
            if name.upper() != "NO_PROXY"
        )

    def advice(self, output: Iterable[str], dockerfile: str) -> str:
        """What may help a build whose last lines are `output`: a sentence, or nothing."""
        text = "\n".join(output)
        if _UNTRUSTED.search(text):
            if HOST_CA not in dockerfile:
                return (
                    " The server's certificate is not trusted in the image. A Dockerfile that "
                    f"copies {HOST_CA} gets this host's authorities in that file, when "
                    f"{' or '.join(AUTHORITIES)} names them."
                )
            if not self.authorities:
                return (
                    " The server's certificate is not trusted in the image. If it is on this host, "
                    f"set {AUTHORITIES[-1]} to the host's bundle."
                )
        if _UNREACHABLE.search(text):
            return (
                " The build's commands could not reach the network. If this host can, try "
                "--network host, and set HTTPS_PROXY if it needs a proxy."
            )
        return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
