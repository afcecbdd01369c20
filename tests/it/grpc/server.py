"""The server of the gRPC interoperability cases, without protobuf: a message is a length, JSON, and padding."""
import json
import sys
import threading
import time
from concurrent import futures

import grpc

OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
]
# How many streams are open: told to who asks.
STREAMS = {"open": 0}
LOCK = threading.Lock()


def read(message):
    size = int.from_bytes(message[:4], "big")
    return json.loads(message[4 : 4 + size])


def count(context):
    def add(change):
        with LOCK:
            STREAMS["open"] += change

    add(1)
    if not context.add_callback(lambda: add(-1)):
        add(-1)


def metadata(context):
    """What the client sent comes back, at both ends of the answer."""
    for key, value in context.invocation_metadata():
        if key == "x-grpc-test-echo-initial":
            context.send_initial_metadata([(key, value)])
        if key == "x-grpc-test-echo-trailing-bin":
            context.set_trailing_metadata([(key, value)])


def status(asked, context):
    if "code" in asked:
        context.set_code(next(code for code in grpc.StatusCode if code.value[0] == asked["code"]))
        context.set_details(asked["message"])


def empty(message, context):
    assert message == b"", message
    return b""


def unary(message, context):
    asked = read(message)
    metadata(context)
    if asked.get("sleep"):
        time.sleep(asked["sleep"])
    status(asked, context)
    return b"r" * asked.get("size", 0)


def client_stream(messages, context):
    count(context)
    total = sum(len(message) for message in messages)
    return total.to_bytes(8, "big")


def server_stream(message, context):
    asked = read(message)
    for size in asked["sizes"]:
        yield b"s" * size
        if asked.get("pause"):
            time.sleep(asked["pause"])
    status(asked, context)


def duplex(messages, context):
    count(context)
    metadata(context)
    for message in messages:
        asked = read(message)
        status(asked, context)
        if "code" in asked:
            return
        if asked.get("first_sleep"):
            time.sleep(asked["first_sleep"])
        for size in asked["sizes"]:
            yield b"d" * size


def echo(messages, context):
    yield from messages


def streams(message, context):
    with LOCK:
        return json.dumps(STREAMS).encode()


def caller(message, context):
    return json.dumps({"peer": context.peer(), "left": context.time_remaining()}).encode()


def main():
    server = grpc.server(futures.ThreadPoolExecutor(32), options=OPTIONS)
    kinds = grpc
    server.add_generic_rpc_handlers([
        grpc.method_handlers_generic_handler("interop.Test", {
            "Empty": kinds.unary_unary_rpc_method_handler(empty),
            "Unary": kinds.unary_unary_rpc_method_handler(unary),
            "ClientStream": kinds.stream_unary_rpc_method_handler(client_stream),
            "ServerStream": kinds.unary_stream_rpc_method_handler(server_stream),
            "Duplex": kinds.stream_stream_rpc_method_handler(duplex),
            "Echo": kinds.stream_stream_rpc_method_handler(echo),
            "Streams": kinds.unary_unary_rpc_method_handler(streams),
            "Caller": kinds.unary_unary_rpc_method_handler(caller),
        })
    ])
    if len(sys.argv) > 1:
        cert, key = (open(name, "rb").read() for name in sys.argv[1:3])
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, cert)]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


main()
