"""A server in front of an S3 server that fails as networks and busy services do, the same way for the same seed.

What goes wrong with a request depends on the seed, on what is asked and on how often it was asked before: not on the
order in which threads come. The third try of one request is always let through.
"""

import hashlib
import http.client
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar

FAULTS = ("500", "503", "slow_down", "reset", "lost_reply", "reset_in_body", "cut_short", "slow_body")
MORE_FAULTS = ("flipped", "trickle")
CODES = {
    "500": (500, "InternalError"),
    "503": (503, "ServiceUnavailable"),
    "slow_down": (503, "SlowDown"),
    "conflict": (409, "ConditionalRequestConflict"),  # only where an upload is completed
    "expired": (400, "ExpiredToken"),
    "unknown_key": (403, "InvalidAccessKeyId"),
    "wrong_secret": (403, "SignatureDoesNotMatch"),
    "other_region": (400, "AuthorizationHeaderMalformed"),
    "unconditional": (501, "NotImplemented"),
    "forbidden": (403, "AccessDenied"),
    "gone": (404, "NoSuchKey"),
    "undeleted": (200, "InternalError"),  # of one of many files: only where many are deleted
    "locked": (200, "AccessDenied"),
}
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}
LET_THROUGH = 3


class FaultyServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream: str, seed: int, rate: float, kinds: Iterable[str], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.good_key: str | None = None  # where one is named, requests with another have expired
        self.down_until = 0.0
        self.upstream, self.seed, self.rate, self.kinds = upstream, seed, rate, tuple(kinds)
        self.asked: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def outage(self, seconds: float) -> None:
        """From now on, for so long, every connection is reset."""
        self.down_until = time.monotonic() + seconds

    def fault(self, method: str, path: str, stretch: str) -> str | None:
        """What is to go wrong with this request."""
        # The same upload is begun anew under another number.
        asked = f"{method} {path.partition('uploadId=')[0]} {stretch}"
        with self.lock:
            self.requests[method] += 1
            self.asked[asked] += 1
            attempt = self.asked[asked]
        drawn = hashlib.sha256(f"{self.seed} {attempt} {asked}".encode()).digest()
        if not self.kinds or attempt >= LET_THROUGH or drawn[0] / 256 >= self.rate:
            return None
        kind = self.kinds[drawn[1] % len(self.kinds)]
        completes = method == "POST" and "uploadId=" in path
        return None if kind == "conflict" and not completes else kind

    def count(self, kind: str) -> None:
        with self.lock:
            self.faults[kind] += 1

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what this server is about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyServer

    def do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if time.monotonic() < self.server.down_until:
            self.server.count("outage")
            self._reset()
            return
        key = self.headers.get("Authorization", "").partition("Credential=")[2].partition("/")[0]
        if self.server.good_key not in (None, key):
            self.server.count("expired")
            self._refuse(*CODES["expired"])
            return
        kind = self.server.fault(self.command, self.path, self.headers.get("Range", ""))
        if kind in CODES:
            self.server.count(kind)
            self._refuse(*CODES[kind])
            return
        if kind == "reset":
            self.server.count(kind)
            self._reset()
            return
        upstream = http.client.HTTPConnection(self.server.upstream.removeprefix("http://"), timeout=60)
        try:
            kept = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            upstream.request(self.command, self.path, body, kept | {"Content-Length": str(len(body))})
            answer = upstream.getresponse()
            data = answer.read()
        finally:
            upstream.close()
        if kind == "lost_reply":
            self.server.count(kind)
            self._reset()
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP | {"server", "date"}:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if kind is None or len(data) < 2:
            self.wfile.write(data)
            return
        self.server.count(kind)
        if kind == "flipped":
            self.wfile.write(data[:-1] + bytes([data[-1] ^ 1]))
            return
        if kind == "trickle":
            for byte in data:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(0.05)
            return
        if kind == "slow_body":
            for start in range(0, len(data), 1 + len(data) // 5):
                self.wfile.write(data[start : start + 1 + len(data) // 5])
                self.wfile.flush()
                time.sleep(0.02)
            return
        self.wfile.write(data[: len(data) // 2])
        self.wfile.flush()
        if kind == "reset_in_body":
            self._reset()
        else:
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do

    def _refuse(self, status: int, code: str) -> None:
        said = f"<Error><Code>{code}</Code><Message>told to</Message></Error>"
        data = (f"<DeleteResult>{said}</DeleteResult>" if status == 200 else said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _reset(self) -> None:
        """End the connection with an RST, as a machine that is gone does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *values: object) -> None:
        """Nothing: what happened is counted."""


Served = TypeVar("Served", bound=FaultyServer)


@contextmanager
def faulty(
    upstream: str, seed: int = 0, rate: float = 0.3, kinds: Iterable[str] = FAULTS, port: int = 0
) -> Iterator[FaultyServer]:
    with serving(FaultyServer(upstream, seed, rate, kinds, port)) as server:
        yield server


@contextmanager
def serving(server: Served) -> Iterator[Served]:
    """A server that answers, until the end, from a thread of its own."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
