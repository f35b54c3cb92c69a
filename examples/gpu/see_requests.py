"""Pass everything on to a Docker engine, and print each request for a container as JSON.

Usage: see_requests.py SOCKET [SOCKET-OF-THE-ENGINE]
"""

import asyncio
import json
import re
import sys

OURS, ENGINE = [*sys.argv[1:], "/var/run/docker.sock"][:2]
CREATE = re.compile(
    rb"POST \S*/containers/create\S* HTTP/1.1\r\n"
    rb"(?:.+\r\n)*?content-length: (\d+)\r\n(?:.+\r\n)*\r\n",
    re.I,
)


def show_requests(seen: bytes) -> bytes:
    """Print the requests that are whole; what is left of the bytes."""
    while (found := CREATE.search(seen)) and len(seen) >= found.end() + int(found[1]):
        end = found.end() + int(found[1])
        print(json.dumps(json.loads(seen[found.end() : end]), indent=2), flush=True)
        seen = seen[end:]
    return seen if found else seen[-65536:]


async def copy(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, *, shows: bool = False
) -> None:
    seen = b""
    try:
        while data := await source.read(65536):
            if shows:
                seen = show_requests(seen + data)
            target.write(data)
            await target.drain()
        target.write_eof()
    except ConnectionError:
        target.close()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    from_engine, to_engine = await asyncio.open_unix_connection(ENGINE)
    await asyncio.gather(copy(reader, to_engine, shows=True), copy(from_engine, writer))
    to_engine.close()
    writer.close()


async def main() -> None:
    server = await asyncio.start_unix_server(serve, OURS)
    await server.serve_forever()


asyncio.run(main())
