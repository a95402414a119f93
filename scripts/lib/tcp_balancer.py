"""Forwards connections to several backends in turn, skipping those that refuse: a TCP balancer for a cluster.

    tcp_balancer.py PORT BACKEND-PORT…      all on 127.0.0.1
"""

import asyncio
import itertools
import sys


async def pump(reader, writer):
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # The other end is gone; close this one.
    finally:
        writer.close()


async def main(port, backends):
    turns = itertools.count()

    async def accept(reader, writer):
        first = next(turns)
        for backend in (backends[(first + step) % len(backends)] for step in range(len(backends))):
            try:
                upstream = await asyncio.open_connection("127.0.0.1", backend)
            except OSError:
                continue
            await asyncio.gather(pump(reader, upstream[1]), pump(upstream[0], writer))
            return
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", port) as server:
        await server.serve_forever()


asyncio.run(main(int(sys.argv[1]), [int(backend) for backend in sys.argv[2:]]))
