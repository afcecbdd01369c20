"""Usage: client.py ADDRESS WHAT [ARGUMENT...]; prints what came of it, one JSON."""
import asyncio
import http.client
import json
import statistics
import sys
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

ADDRESS, WHAT, *ARGUMENTS = sys.argv[1:]


def opened(**options):
    options = {"max_size": None, "ping_interval": None, "open_timeout": 20, **options}
    return connect(f"ws://{ADDRESS}/ws", **options)


async def code(socket):
    """The code that the connection is closed with."""
    try:
        while True:
            await asyncio.wait_for(socket.recv(), 25)
    except ConnectionClosed:
        return socket.close_code


async def both_ways(count, size, compression):
    """So many messages, all on their way while they come back."""
    compression = None if compression == "none" else compression
    message = bytes(range(256)) * (int(size) // 256)
    async with opened(compression=compression) as socket:
        async def send():
            for _ in range(int(count)):
                await socket.send(message)
        sending = asyncio.create_task(send())
        for _ in range(int(count)):
            assert await asyncio.wait_for(socket.recv(), 25) == message
        await sending
    return {"code": socket.close_code}


async def silent(seconds):
    """Says nothing for so long."""
    async with opened() as socket:
        began = time.monotonic()
        try:
            await asyncio.wait_for(socket.recv(), float(seconds))
        except TimeoutError:
            await socket.send("there?")
            return {"alive": await asyncio.wait_for(socket.recv(), 20) == "there?"}
        except ConnectionClosed:
            return {"code": socket.close_code, "after": time.monotonic() - began}


async def send(text):
    """Sends so many bytes, or a text."""
    async with opened(compression=None) as socket:
        await socket.send(bytes(int(text)) if text.isdigit() else text)
        message = await asyncio.wait_for(socket.recv(), 20)
        return {"length": len(message)}


async def refused(text):
    async with opened(compression=None) as socket:
        await socket.send(bytes(int(text)) if text.isdigit() else text)
        return {"code": await code(socket)}


async def wait():
    async with opened() as socket:
        print("open", flush=True)
        return {"code": await code(socket)}


async def origin(text):
    try:
        async with opened(origin=None if text == "none" else text):
            return {"status": 101}
    except InvalidStatus as error:
        return {"status": error.response.status_code}


async def events(count):
    """How late the events are, in the middle of so many."""
    host, port = ADDRESS.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.request("GET", "/events", headers={"accept": "text/event-stream"})
    answer, late = connection.getresponse(), []
    while len(late) < int(count):
        line = answer.readline()
        assert line, "the stream ended"
        if line.startswith(b"data: "):
            late.append(time.monotonic() - float(line[6:]))
    return {"status": answer.status, "late": statistics.median(late), "first": late[0]}


print(json.dumps(asyncio.run(globals()[WHAT](*ARGUMENTS))), flush=True)
