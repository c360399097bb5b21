"""A server that fails as its paths say, and a port that answers nobody"""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, contextmanager
from socketserver import StreamRequestHandler, ThreadingTCPServer

from faulty_replies import REPLIES, reply


@contextmanager
def misbehaving():
    """A server that does to each connection what REPLIES says for its path; it keeps the request targets."""
    targets = []

    class Handler(StreamRequestHandler):
        def handle(self):
            method, _, rest = self.rfile.readline().partition(b" ")
            if method != b"GET":
                return self.connection.sendall(reply(b"", line="HTTP/1.1 400 Bad Request"))
            target = rest.partition(b" ")[0]
            targets.append(target)
            while self.rfile.readline().strip():
                pass
            path = target.partition(b"?")[0][1:].decode("latin-1")
            behaviour = REPLIES[path][0] if path in REPLIES else reply(line="HTTP/1.1 404 Not Found")
            if callable(behaviour):
                behaviour(self.connection)
            else:
                self.connection.sendall(behaviour)

    class Server(ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 256

        def handle_error(self, request, client_address):
            """A client that hangs up is part of the test."""

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        server.base, server.targets = f"http://127.0.0.1:{server.server_address[1]}", targets
        yield server
        server.shutdown()


@contextmanager
def full_backlog():
    """A port that takes no connection: its queue is full, and what comes after it gets no answer."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/a.jpg"
