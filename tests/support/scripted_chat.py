"""A chat server that answers by a script, and a client that asks it"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from recap_spark.settings.endpoint import ChatSettings
from recap_spark.workers.chat.client import ChatClient

SPEC = ChatSettings(
    api_key_env=None,
    concurrency=4,
    timeout_s=5.0,
    attempts=3,
    longest_busy_s=30.0,
    backoff_s=0.001,
    longest_retry_after_s=0.01,
)


@dataclass(frozen=True)
class Reply:
    code: int
    body: object
    headers: dict[str, str] = field(default_factory=dict)


def completion(text: str, finish: str = "stop") -> Reply:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
    return Reply(200, {"choices": [choice], "usage": {"completion_tokens": 7}})


class Server(ThreadingHTTPServer):
    """Answers each message by a function of its text and of how often that text has been asked."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, script: Callable[[str, int], Reply], pages: dict[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.pages = script, pages
        self.asked: list[str] = []
        self.keys: set[str | None] = set()
        self.lock = threading.Lock()
        self.in_flight = 0
        self.company: dict[str, list[int]] = {}  # requests in flight, for each time a text came

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self):
        code = self.server.pages.get(self.path, 404)
        self.reply(Reply(code, {}))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][0]["content"]
        with self.server.lock:
            self.server.in_flight += 1
            self.server.asked.append(text)
            self.server.keys.add(self.headers["Authorization"])
            self.server.company.setdefault(text, []).append(self.server.in_flight)
            times = self.server.asked.count(text)
        try:
            reply = self.server.script(text, times)
        finally:
            with self.server.lock:
                self.server.in_flight -= 1
        self.reply(reply)

    def reply(self, reply):
        data = json.dumps(reply.body).encode()
        self.send_response_only(reply.code)
        for name, value in ({"Content-Length": str(len(data))} | reply.headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(script: Callable[[str, int], Reply], **pages: int) -> Iterator[Server]:
    with Server(script, {f"/{page.replace('_', '/')}": code for page, code in pages.items()}) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@contextmanager
def client(server: Server, spec: ChatSettings = SPEC) -> Iterator[ChatClient]:
    chat = ChatClient(spec, model="small", where=lambda: server.url)
    try:
        yield chat
    finally:
        chat.close()


def words(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def ask(chat: ChatClient, text: str):
    return chat.ask(words(text), max_tokens=9, temperature=0.0, known_good=words("fine"))
