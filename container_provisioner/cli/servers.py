"""The Jupyter Server that has a kernel, asked through its REST API."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.netutil import Resolver
from tornado.simple_httpclient import HTTPStreamClosedError, HTTPTimeoutError

from ..errors import OwnerRefused
from ..store import lease_facts, runtime_folder

REQUEST_SECONDS = 120.0  # a server that restarts a kernel waits for a minute until that answers


class UnknownKernel(Exception):
    """The server has no kernel of that id."""


@dataclass(frozen=True)
class RunningServer:
    """Who it is, where it listens, and what it wants to be shown."""

    program: str  # such as "jupyter-lab 4711"
    url: str
    token: str

    async def shut_down(self, kernel_id: str) -> None:
        """Raises `UnknownKernel`; `OwnerRefused` when it does not do it."""
        await self._ask("DELETE", kernel_id)

    async def restart(self, kernel_id: str) -> None:
        """Raises the same. Returns when the kernel answers again."""
        await self._ask("POST", kernel_id, "/restart", body=b"")

    async def _ask(
        self, method: str, kernel_id: str, action: str = "", body: bytes | None = None
    ) -> None:
        """See "Kernels API" in jupyter_server's documentation."""
        url, resolver = self.url, None
        if url.startswith("http+unix://"):
            url, resolver = "http" + url.removeprefix("http+unix"), _SocketResolver()
        client = AsyncHTTPClient(force_instance=True, resolver=resolver)
        request = HTTPRequest(
            f"{url.rstrip('/')}/api/kernels/{quote(kernel_id, safe='')}{action}",
            method=method,
            headers={"Authorization": f"token {self.token}"},
            body=body,
            request_timeout=REQUEST_SECONDS,
            # As jupyter_server's own commands do: the certificate is for the name that browsers
            # use, and this is the address that the server wrote into a private file.
            validate_cert=False,
        )
        try:
            await client.fetch(request)
        except (HTTPStreamClosedError, HTTPTimeoutError) as exc:  # HTTPClientErrors, but no answers
            raise self._silent(exc) from exc
        except HTTPClientError as exc:
            if exc.code == 404:
                raise UnknownKernel from exc
            raise OwnerRefused(self._refusal(exc)) from exc
        except OSError as exc:
            raise self._silent(exc) from exc
        finally:
            client.close()

    def _silent(self, exc: Exception) -> OwnerRefused:
        return OwnerRefused(
            f"It belongs to {self.program}, which does not answer at {self._place} ({exc}). "
            "Try again, or end that process."
        )

    def _refusal(self, exc: HTTPClientError) -> str:
        if exc.code in (401, 403):
            return (
                f"It belongs to {self.program} at {self._place}, which wants a password or another "
                "login than its token. Shut the kernel down or restart it there."
            )
        return f"It belongs to {self.program} at {self._place}, which failed: {_words(exc)}"

    @property
    def _place(self) -> str:
        """The address without what may be secret in it."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{unquote(parts.netloc.rpartition('@')[2])}{parts.path}"


def server_of(owner: str) -> RunningServer | None:
    """The one that holds the lease `owner`; None when that process is no server.

    Read from the file that every Jupyter Server writes into the runtime directory. (Its own
    ``list_running_servers`` removes those of servers that run in other containers.)
    """
    facts = lease_facts(owner)
    try:
        path = runtime_folder() / f"jpserver-{int(facts['pid'])}.json"
        found: dict[str, Any] = json.loads(path.read_bytes())
        url, token = str(found["url"]), str(found.get("token") or "")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return RunningServer(program=f"{facts.get('program')} {facts['pid']}", url=url, token=token)


def _words(exc: HTTPClientError) -> str:
    """The server's message, which is JSON as a rule."""
    try:
        answer = json.loads(exc.response.body if exc.response is not None else b"")
        return f"{answer['message']} {answer.get('reason') or ''}".strip()
    except (ValueError, KeyError, TypeError, AttributeError):
        return str(exc)


class _SocketResolver(Resolver):
    """For a server that listens on a unix socket: its path, quoted, is the host's name."""

    async def resolve(
        self, host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[tuple[int, Any]]:
        return [(socket.AF_UNIX, unquote(host))]
