"""Echoes WebSockets, and tells events. Prints its two ports, then how each WebSocket ended."""
import asyncio
import time

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def echo(socket):
    try:
        async for message in socket:
            if isinstance(message, str) and message.startswith("send "):
                await socket.send(bytes(int(message[5:])))
            else:
                await socket.send(message)
    except ConnectionClosed:
        pass
    print("ended", socket.close_code, flush=True)


async def events(reader, writer):
    """An event in each tenth of a second, with the time when it was sent; each ends in a write of its own."""
    await reader.readuntil(b"\r\n\r\n")
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    writer.write(head.encode())
    try:
        for _ in range(100):
            data = f"data: {time.monotonic()}\n\n".encode()
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            await writer.drain()
            await asyncio.sleep(0.1)
    except ConnectionError:
        pass
    writer.close()


async def main():
    options = {"max_size": None, "ping_interval": None}
    async with serve(echo, "127.0.0.1", 0, **options) as sockets:
        stream = await asyncio.start_server(events, "127.0.0.1", 0)
        ports = [next(iter(server.sockets)).getsockname()[1] for server in (sockets, stream)]
        print("ports", *ports, flush=True)
        await asyncio.Future()


asyncio.run(main())
