"""The cases of gRPC's interoperability tests (grpc/doc/interop-test-descriptions.md), one line each as it passes.
Usage: client.py ADDRESS CA|- WHAT [NUMBER]"""
import json
import sys
import threading
import time

import grpc

ADDRESS, AUTHORITY, WHAT = sys.argv[1:4]
NUMBER = int(sys.argv[4]) if len(sys.argv) > 4 else 0
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.ssl_target_name_override", "grpc.test"),
]
SIZES = [31415, 9, 2653, 58979]
PADDING = [27182, 8, 1828, 45904]


def channel():
    if AUTHORITY == "-":
        return grpc.insecure_channel(ADDRESS, OPTIONS)
    authority = open(AUTHORITY, "rb").read()
    return grpc.secure_channel(ADDRESS, grpc.ssl_channel_credentials(authority), OPTIONS)


CHANNEL = channel()


def method(kind, name):
    return getattr(CHANNEL, kind)("/interop.Test/" + name)


def message(padding=0, **asked):
    text = json.dumps(asked).encode()
    return len(text).to_bytes(4, "big") + text + b"p" * padding


def fails(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("it did not fail")


def streams():
    return json.loads(method("unary_unary", "Streams")(b""))["open"]


def until(true):
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def empty_unary():
    assert method("unary_unary", "Empty")(b"") == b""


def large_unary():
    answer = method("unary_unary", "Unary")(message(271828, size=314159))
    assert answer == b"r" * 314159


def client_streaming():
    total = method("stream_unary", "ClientStream")(message(size) for size in PADDING)
    assert int.from_bytes(total, "big") == sum(PADDING) + len(PADDING) * len(message())


def server_streaming():
    answers = method("unary_stream", "ServerStream")(message(sizes=SIZES))
    assert [len(answer) for answer in answers] == SIZES


def ping_pong():
    turn = threading.Semaphore(1)

    def messages():
        for padding, size in zip(PADDING, SIZES):
            assert turn.acquire(timeout=20)
            yield message(padding, sizes=[size])

    seen = []
    for answer in method("stream_stream", "Duplex")(messages()):
        seen.append(len(answer))
        turn.release()
    assert seen == SIZES, seen


def empty_stream():
    assert list(method("stream_stream", "Duplex")(iter(()))) == []


def cancel_after_begin():
    never = threading.Event()

    def messages():
        never.wait(30)
        yield b""

    call = method("stream_unary", "ClientStream").future(messages())
    time.sleep(0.1)
    call.cancel()
    assert call.code() == grpc.StatusCode.CANCELLED
    # Either the server never heard of it, or it was told that it is over: here nobody ends the messages.
    until(lambda: streams() == 0)
    never.set()


def cancel_after_first_response():
    never = threading.Event()

    def messages():
        yield message(PADDING[0], sizes=SIZES[:1])
        never.wait(30)

    call = method("stream_stream", "Duplex")(messages())
    assert len(next(call)) == SIZES[0]
    until(lambda: streams() == 1)
    call.cancel()
    assert fails(lambda: next(call)).code() == grpc.StatusCode.CANCELLED
    until(lambda: streams() == 0)
    never.set()


def timeout_on_sleeping_server():
    never = threading.Event()

    def messages():
        yield message(PADDING[0], sizes=[1], first_sleep=1)
        never.wait(30)

    call = method("stream_stream", "Duplex")(messages(), timeout=0.2)
    assert fails(lambda: next(call)).code() == grpc.StatusCode.DEADLINE_EXCEEDED
    until(lambda: streams() == 0)
    never.set()


def status_code_and_message():
    for text in ["test status message", "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"]:
        asked = message(code=2, message=text)
        for call in [
            lambda: method("unary_unary", "Unary")(asked),
            lambda: list(method("stream_stream", "Duplex")(iter([asked]))),
        ]:
            error = fails(call)
            assert (error.code(), error.details()) == (grpc.StatusCode.UNKNOWN, text), error


def custom_metadata():
    sent = [("x-grpc-test-echo-initial", "test_initial_metadata_value"), ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab")]
    _, call = method("unary_unary", "Unary").with_call(message(size=314159), metadata=sent)
    stream = method("stream_stream", "Duplex")(iter([message(sizes=[31415])]), metadata=sent)
    assert len(list(stream)) == 1
    for done in [call, stream]:
        assert sent[0] in [tuple(pair) for pair in done.initial_metadata()], done.initial_metadata()
        assert sent[1] in [tuple(pair) for pair in done.trailing_metadata()], done.trailing_metadata()


def unimplemented_method():
    error = fails(lambda: method("unary_unary", "Nothing")(b""))
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error


def unimplemented_service():
    error = fails(lambda: CHANNEL.unary_unary("/interop.Nobody/Unary")(b""))
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error


CASES = [
    empty_unary, large_unary, client_streaming, server_streaming, ping_pong, empty_stream, cancel_after_begin,
    cancel_after_first_response, timeout_on_sleeping_server, status_code_and_message, custom_metadata,
    unimplemented_method, unimplemented_service,
]


def cases():
    for case in CASES:
        case()
        print("passed", case.__name__, flush=True)


def many():
    """So many calls of all kinds, eight at a time; a line for each hundredth of them."""
    mixed = [empty_unary, client_streaming, server_streaming, ping_pong, empty_stream]
    left, lock, failed = [NUMBER], threading.Lock(), []

    def work():
        while not failed:
            with lock:
                if not left[0]:
                    return
                left[0] -= 1
                number = left[0]
            try:
                (mixed[number // 10 % len(mixed)] if number % 10 == 0 else empty_unary)()
            except BaseException as error:
                failed.append(error)
            if number % max(1, NUMBER // 100) == 0:
                print("left", number, flush=True)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    print("passed", "many", flush=True)


def both_ways():
    """12 MiB there and back, in pieces that are all on their way at once; then whole, twice, before any is read."""
    piece = bytes(range(256)) * 1024
    answers = method("stream_stream", "Echo")(iter([piece] * 48))
    assert list(answers) == [piece] * 48
    whole = piece * 48
    answers = method("stream_stream", "Echo")(iter([whole] * 2))
    assert all(answer == whole for answer in answers)
    print("passed", "both_ways", flush=True)


def slow_reader():
    """One call that takes nothing of what comes, and others beside it on the same connection."""
    stuck = method("unary_stream", "ServerStream")(message(sizes=[1 << 20] * 64))
    assert len(next(stuck)) == 1 << 20
    for _ in range(20):
        large_unary()
    assert sum(len(answer) for answer in stuck) == 63 << 20
    print("passed", "slow_reader", flush=True)


def silent():
    """A stream that says nothing for NUMBER milliseconds, before its first message and after it."""
    pause = NUMBER / 1000
    answers = method("stream_stream", "Duplex")(iter([message(sizes=[1], first_sleep=pause), message(sizes=[1], first_sleep=pause)]))
    assert [len(answer) for answer in answers] == [1, 1]
    print("passed", "silent", flush=True)


def one():
    """One call; how it ended."""
    try:
        method("unary_unary", "Unary")(message(sleep=NUMBER / 1000, size=1), timeout=20)
        print("ok", flush=True)
    except grpc.RpcError as error:
        print(json.dumps({"code": error.code().value[0], "details": error.details()}), flush=True)


def caller():
    print(method("unary_unary", "Caller")(b"", timeout=20).decode(), flush=True)


globals()[WHAT]()
