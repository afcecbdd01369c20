"""A service that decides, with the messages of Envoy: what it says depends on the path it is asked about."""
import sys
import threading
from concurrent import futures

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import external_auth_pb2 as auth
from envoy.type.v3 import http_status_pb2
from google.protobuf import json_format
from google.rpc import status_pb2


def header(name, value, append=False):
    option = base_pb2.HeaderValueOption(header=base_pb2.HeaderValue(key=name, value=value))
    option.append.value = append
    return option


def allow(**parts):
    return auth.CheckResponse(status=status_pb2.Status(code=0), ok_response=auth.OkHttpResponse(**parts))


def deny(status, **parts):
    denied = auth.DeniedHttpResponse(status=http_status_pb2.HttpStatus(code=status), **parts)
    return auth.CheckResponse(status=status_pb2.Status(code=16), denied_response=denied)


def check(asked, context):
    print("CHECK " + json_format.MessageToJson(asked, indent=None), flush=True)
    path = asked.attributes.request.http.path.split("?")[0]
    said = b""
    if path == "/allow":
        said = allow(
            headers=[header("x-user", "u1"), header("x-tag", "more", append=True), header("host", "evil.test")],
            headers_to_remove=["x-gone", "content-length"],
            response_headers_to_add=[header("x-decided", "yes")],
        )
    elif path == "/plainly":
        said = auth.CheckResponse()
    elif path == "/deny":
        said = deny(401, headers=[header("www-authenticate", "Token"), header("content-length", "7")], body="who?")
    elif path == "/deny-plainly":
        said = auth.CheckResponse(status=status_pb2.Status(code=7))
    elif path == "/deny-with-200":
        said = deny(200, body="fine")
    elif path.startswith("/by-body"):
        said = deny(403, body='{"status":403}') if b"evil" in asked.attributes.request.http.raw_body else allow()
    elif path == "/slow":
        # Until whoever asked has gone.
        gone = threading.Event()
        if context.add_callback(gone.set):
            gone.wait(60)
        said = auth.CheckResponse()
    elif path == "/error":
        context.abort(grpc.StatusCode.UNAVAILABLE, "no")
    elif path == "/error-behind":
        # A message that lets in, and a status that says it is none.
        context.set_code(grpc.StatusCode.INTERNAL)
        return b""
    elif path == "/garbage":
        return b"\x0a\x7f\x01"
    elif path == "/large":
        said = deny(403, body="x" * (1 << 20))
    return said if isinstance(said, bytes) else said.SerializeToString()


server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=[("grpc.so_reuseport", 0)])
handler = grpc.unary_unary_rpc_method_handler(check, auth.CheckRequest.FromString, lambda said: said)
server.add_generic_rpc_handlers(
    [grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", {"Check": handler})]
)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
server.wait_for_termination()
