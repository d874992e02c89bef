"""An echo server of `websockets` on a free port, which it prints; `deflate` as the argument offers compression."""

import asyncio
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def echo(socket):
    try:
        async for message in socket:
            await socket.send(message)
    except ConnectionClosed:
        pass


async def main():
    compression = "deflate" if "deflate" in sys.argv[1:] else None
    async with serve(echo, "127.0.0.1", 0, compression=compression, max_size=2**26, ping_interval=None) as server:
        print("listening on", server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


asyncio.run(main())
