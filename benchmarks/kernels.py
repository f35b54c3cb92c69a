"""One kernel under measurement, through the public API of jupyter_client only.

Every method that measures answers in seconds and does for each provisioner exactly the same calls.
"""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from queue import Empty
from time import monotonic, perf_counter
from types import TracebackType
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient
from place import Column, Place
from pool import Pool

PIECE = 64 * 1024  # characters in one stream message
PIECES = 320  # under ZeroMQ's high-water mark of 1000 messages: none is dropped
STREAM_BYTES = PIECE * PIECES
REPLY_TIMEOUT = 60.0  # seconds a kernel may take for one reply; more is an error, not a figure

# flush: a message per piece. Without it ipykernel joins whatever was written in its flush interval
# of 0.2 s, and the figure says how often that timer happened to fire.
STREAM_CELL = f"""
piece = "x" * {PIECE - 1} + chr(10)
for _ in range({PIECES}):
    print(piece, end="", flush=True)
"""
VERSIONS = (
    "'Python ' + __import__('platform').python_version()"
    " + ', ipykernel ' + __import__('ipykernel').__version__"
)


class Kernel:
    """An async context: however it is left, the kernel is gone afterwards.

    A client that connects before the kernel listens tries again after 100 to 200 ms, at random, and
    `shutdown_kernel` looks every 100 ms whether the kernel has ended. That is what a front end gets
    and what is measured by default; ``fine`` makes it 10 to 20 ms and 5 ms.
    """

    def __init__(
        self, column: Column, place: Place, *, fine: bool = False, recreate: bool = False
    ) -> None:
        self.column = column
        self._place = place
        self._fine = fine
        self._context = place.fine if fine else place.stock
        name = place.kernel_name(column, recreate=recreate)
        self._manager = place.manager(name, column, fine=fine)
        self._pool = place.pools.get(name)
        # Whether a restart claims: with a container of its own it needs none.
        self._recreates = recreate
        self._client: AsyncKernelClient | None = None
        self._clean = True

    async def __aenter__(self) -> Kernel:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._disconnect()
        if self._manager.has_kernel:
            await self._manager.shutdown_kernel(now=True)
        elif not self._clean:
            await self._manager.cleanup_resources()

    async def start(self) -> float:
        self._clean = False
        async with self._claiming(self._pool):
            begin = perf_counter()
            await self._manager.start_kernel(cwd=str(self._place.workspace))
            await self._first_reply()
            seconds = perf_counter() - begin
        await self._subscribed()
        return seconds

    async def restart(self) -> float:
        self._disconnect()
        async with self._claiming(self._pool if self._recreates else None):
            begin = perf_counter()
            await self._manager.restart_kernel(now=False)
            await self._first_reply()
            seconds = perf_counter() - begin
        await self._subscribed()
        return seconds

    @asynccontextmanager
    async def _claiming(self, pool: Pool | None) -> AsyncIterator[None]:
        """What is taken from a pool is refilled; and was it taken, or started cold?"""
        if pool is not None:
            pool.taken_from()
        yield
        if pool is not None:
            await pool.check(self.kernel_id)

    async def shutdown(self) -> float:
        self._disconnect()
        begin = perf_counter()
        if self._fine:  # the steps of shutdown_kernel, by their own public names
            await self._manager.interrupt_kernel()
            await self._manager.request_shutdown()
            await self._manager.finish_shutdown(pollinterval=0.005)
            await self._manager.cleanup_resources()
        else:
            await self._manager.shutdown_kernel(now=False)
        seconds = perf_counter() - begin
        self._clean = True
        return seconds

    async def round_trip(self) -> tuple[float, float]:
        """An empty execute: seconds to its reply, seconds to idle."""
        client = self._connected
        begin = perf_counter()
        request = client.execute("")
        await self._reply(request)
        replied = perf_counter()
        await self._until_idle(request)
        return replied - begin, perf_counter() - begin

    async def stream(self) -> float:
        client = self._connected
        begin = perf_counter()
        request = client.execute(STREAM_CELL, store_history=False)
        await self._reply(request)
        arrived = await self._until_idle(request)
        seconds = perf_counter() - begin
        if arrived != STREAM_BYTES:
            raise RuntimeError(
                f"{self.column.name}: {arrived} of {STREAM_BYTES} printed characters arrived."
            )
        return seconds

    async def versions(self) -> str:
        """What runs inside, for example ``Python 3.11.2, ipykernel 7.4.0``."""
        request = self._connected.execute("", user_expressions={"it": VERSIONS})
        reply = await self._reply(request)
        await self._until_idle(request)
        value: str = ast.literal_eval(reply["user_expressions"]["it"]["data"]["text/plain"])
        return value

    @property
    def kernel_id(self) -> str:
        return str(self._manager.kernel_id)

    @property
    def _connected(self) -> AsyncKernelClient:
        if self._client is None:
            raise RuntimeError(f"{self.column.name}: not started.")
        return self._client

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.stop_channels()

    async def _first_reply(self) -> None:
        self._client = self._manager.client(context=self._context)
        self._client.start_channels(stdin=False, hb=False, control=False)
        await self._reply(self._client.kernel_info())

    async def _subscribed(self) -> None:
        """The shell may answer before iopub is connected; ask until both have answered."""
        for _ in range(100):
            request = self._connected.kernel_info()
            await self._reply(request)
            try:
                await self._until_idle(request, wait=0.2)
            except TimeoutError:
                continue
            return
        raise TimeoutError(f"{self.column.name}: iopub stays silent.")

    async def _reply(self, request: str) -> dict[str, Any]:
        deadline = monotonic() + REPLY_TIMEOUT
        while monotonic() < deadline:
            try:
                # The second is no quantum: a message ends the waiting at once.
                message = await self._connected.get_shell_msg(timeout=1)
            except Empty:
                if not await self._manager.is_alive():
                    raise RuntimeError(f"{self.column.name}: the kernel died.") from None
                continue
            if message["parent_header"].get("msg_id") == request:
                content: dict[str, Any] = message["content"]
                return content
        raise TimeoutError(f"{self.column.name}: no reply in {REPLY_TIMEOUT} s.")

    async def _until_idle(self, request: str, *, wait: float = REPLY_TIMEOUT) -> int:
        """Reads iopub until this request has ended; answers the characters it printed."""
        printed = 0
        while True:
            try:
                message = await self._connected.get_iopub_msg(timeout=wait)
            except Empty:
                raise TimeoutError(f"{self.column.name}: not idle in {wait} s.") from None
            if message["parent_header"].get("msg_id") != request:
                continue
            if message["msg_type"] == "stream":
                printed += len(message["content"]["text"])
            elif message["content"].get("execution_state") == "idle":
                return printed
