#!/usr/bin/env python3
"""Gives each connection to the next of some servers that takes it, as a load balancer does.

    balancer.py ADDRESS SERVER...
"""

import asyncio
import itertools
import sys

CHUNK = 256 << 10


def host_port(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


async def pass_on(reader, writer):
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def main(address, servers):
    turns = itertools.cycle(range(len(servers)))

    async def serve(reader, writer):
        first = next(turns)
        for server in servers[first:] + servers[:first]:
            try:
                from_server, to_server = await asyncio.open_connection(*host_port(server), limit=CHUNK)
            except OSError:
                continue
            await asyncio.gather(pass_on(reader, to_server), pass_on(from_server, writer))
            return
        writer.close()

    server = await asyncio.start_server(serve, *host_port(address), limit=CHUNK, reuse_address=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
