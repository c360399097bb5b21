"""A chat server is asked by many at once, again where that may help, and blamed where it is at fault."""

import gc
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from recap_spark.errors import PlatformError
from recap_spark.statuses import FinishReason
from recap_spark.workers.chat import ChatClient, ChatSpec
from recap_spark.workers.chat_replies import Answer, RefusedError, UnansweredError, answer_of, retry_after_s

SPEC = ChatSpec(
    model="small",
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
def client(server: Server, spec: ChatSpec = SPEC) -> Iterator[ChatClient]:
    chat = ChatClient(spec, where=lambda: server.url)
    try:
        yield chat
    finally:
        chat.close()


def words(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def ask(chat: ChatClient, text: str):
    return chat.ask(words(text), max_tokens=9, temperature=0.0, known_good=words("fine"))


def test_an_answer_carries_its_text_why_it_ended_and_its_tokens():
    with serving(lambda text, times: completion(f" {text}! ", "length")) as server, client(server) as chat:
        assert ask(chat, "hello").result() == Answer("hello!", FinishReason.LENGTH, 7)


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503])
def test_what_may_pass_is_asked_again(code):
    def script(text, times):
        return completion(text) if times == 3 else Reply(code, {"error": "later"})

    with serving(script) as server, client(server) as chat:
        assert ask(chat, "hello").result().text == "hello"
        assert server.asked == ["hello"] * 3


def test_a_server_s_wish_to_wait_is_met_up_to_a_limit():
    def script(text, times):
        return completion(text) if times == 2 else Reply(429, {}, {"Retry-After": "1000000"})

    with serving(script) as server, client(server, replace(SPEC, backoff_s=1e6)) as chat:
        assert ask(chat, "hello").result().text == "hello"


def test_a_busy_server_is_asked_for_longer_than_a_broken_one():
    def script(text, times):
        return completion(text) if times == 9 else Reply(429, {"error": "full"})

    with serving(script) as server, client(server) as chat:
        assert ask(chat, "hello").result().text == "hello"


def test_a_server_that_stays_too_busy_is_a_fault_of_the_machine():
    with (
        serving(lambda text, times: Reply(429, {"error": "full"})) as server,
        client(server, replace(SPEC, longest_busy_s=0.05)) as chat,
        pytest.raises(PlatformError, match=r"want an answer of model 'small', found .*HTTP 429.*full"),
    ):
        ask(chat, "hello").result()


def test_a_refused_message_is_not_asked_twice_where_the_server_answers_others():
    def script(text, times):
        return Reply(400, {"error": "no"}) if text == "bad" else completion(text)

    with serving(script) as server, client(server) as chat:
        assert ask(chat, "hello").result().text == "hello"
        with pytest.raises(RefusedError, match="no"):
            ask(chat, "bad").result()
        assert server.asked.count("fine") == 0
        assert server.asked.count("bad") == 1


def test_a_server_that_refuses_every_message_is_a_fault_of_the_setting():
    with (
        serving(lambda text, times: Reply(422, {"error": "unknown field"})) as server,
        client(server) as chat,
        pytest.raises(PlatformError, match="unknown field"),
    ):
        ask(chat, "hello").result()


def test_a_message_that_breaks_a_server_which_answers_others_has_itself_to_blame():
    def script(text, times):
        return Reply(500, {"error": "oh"}) if text == "bad" else completion(text)

    with serving(script) as server, client(server) as chat:
        with pytest.raises(UnansweredError, match="HTTP 500"):
            ask(chat, "bad").result()
        assert server.asked == ["bad", "bad", "bad", "fine"]


def test_a_server_that_breaks_over_every_message_is_a_fault_of_the_machine():
    with (
        serving(lambda text, times: Reply(500, {})) as server,
        client(server) as chat,
        pytest.raises(PlatformError, match="HTTP 500"),
    ):
        ask(chat, "hello").result()


def test_what_a_filter_forbids_is_refused_where_the_server_answers_others():
    def script(text, times):
        return Reply(403, {"error": "flagged"}) if text == "bad" else completion(text)

    with serving(script) as server, client(server) as chat:
        with pytest.raises(RefusedError, match="flagged"):
            ask(chat, "bad").result()
        assert server.asked == ["bad", "fine"]


def test_a_key_that_opens_nothing_is_a_fault_of_the_setting():
    with (
        serving(lambda text, times: Reply(403, {"error": "not yours"})) as server,
        client(server) as chat,
        pytest.raises(PlatformError, match="not yours"),
    ):
        ask(chat, "hello").result()


@pytest.mark.parametrize("code", [308, 401, 404])
def test_a_wrong_key_address_or_model_ends_it_at_once(code):
    with serving(lambda text, times: Reply(code, {})) as server, client(server) as chat:
        with pytest.raises(PlatformError, match=f"HTTP {code}"):
            ask(chat, "hello").result()
        assert server.asked == ["hello"]


def test_no_more_requests_are_in_flight_than_allowed_and_as_many_as_allowed():
    together = threading.Barrier(4)

    def script(text, times):
        together.wait(10)
        return completion(text)

    with serving(script) as server, client(server) as chat:
        answers = [ask(chat, str(number)) for number in range(12)]
        assert [answer.result().text for answer in answers] == [str(number) for number in range(12)]
        assert max(max(seen) for seen in server.company.values()) == 4


def test_the_last_attempt_has_no_other_beside_it():
    def script(text, times):
        return Reply(500, {}) if text == "bad" else completion(text)

    with serving(script) as server, client(server) as chat:
        answers = [ask(chat, "bad" if number == 3 else str(number)) for number in range(40)]
        answered = [answer.exception() is None for answer in answers]
        assert answered == [number != 3 for number in range(40)]
        assert server.company["bad"][-1] == 1


def test_an_answer_that_does_not_come_in_time_counts_as_none():
    over = threading.Event()

    def script(text, times):
        if text == "slow":
            over.wait(30)
        return completion(text)

    with serving(script) as server, client(server, replace(SPEC, timeout_s=0.2, attempts=2)) as chat:
        with pytest.raises(UnansweredError, match="no answer within"):
            ask(chat, "slow").result()
        over.set()


def test_a_server_that_moved_is_found_again():
    with serving(lambda text, times: completion(text)) as gone:
        pass
    with serving(lambda text, times: completion(text)) as server:
        places = iter([gone.url, server.url, server.url])
        chat = ChatClient(SPEC, where=lambda: next(places))
        assert ask(chat, "hello").result().text == "hello"
        chat.close()


def test_a_server_that_is_not_there_is_named():
    with serving(lambda text, times: completion(text)) as gone:
        pass
    with client(gone) as chat:
        with pytest.raises(PlatformError, match=gone.url):
            ask(chat, "hello").result()
        with pytest.raises(PlatformError, match=gone.url):
            chat.check(words("fine"))


def test_the_key_is_read_from_the_environment_and_shown_nowhere(monkeypatch):
    monkeypatch.setenv("RECAP_TEST_KEY", "canary")
    spec = replace(SPEC, api_key_env="RECAP_TEST_KEY")
    with serving(lambda text, times: completion(text)) as server, client(server, spec) as chat:
        ask(chat, "hello").result()
        assert server.keys == {"Bearer canary"}
        assert "canary" not in repr(spec)


@pytest.mark.parametrize("code", [401, 422, 500])
def test_a_server_that_repeats_the_key_does_not_bring_it_into_an_error(monkeypatch, code):
    monkeypatch.setenv("RECAP_TEST_KEY", "canary")
    spec = replace(SPEC, api_key_env="RECAP_TEST_KEY")
    script = lambda text, times: Reply(code, {"error": "I do not know canary"})  # noqa: E731
    with serving(script) as server, client(server, spec) as chat:
        said = str(ask(chat, "hello").exception())
    assert "I do not know ***" in said
    assert "canary" not in said


def test_a_key_with_its_line_s_end_is_named_and_not_shown(monkeypatch):
    monkeypatch.setenv("RECAP_TEST_KEY", "canary\n")
    with pytest.raises(PlatformError, match="RECAP_TEST_KEY, found characters") as raised:
        ChatClient(replace(SPEC, api_key_env="RECAP_TEST_KEY"), where=lambda: "http://127.0.0.1:1/v1")
    assert "canary" not in str(raised.value)


def test_a_client_that_is_dropped_ends_its_thread():
    with serving(lambda text, times: completion(text)) as server:
        before = set(threading.enumerate())
        chat = ChatClient(SPEC, where=lambda: server.url)
        (thread,) = (one for one in set(threading.enumerate()) - before if one.name == "chat")
        assert ask(chat, "hello").result().text == "hello"
        del chat
        gc.collect()
        thread.join(30)
        assert not thread.is_alive()


def test_half_a_surrogate_and_a_count_that_is_none_do_not_break_a_row():
    reply = completion("x \ud83d").body | {"usage": {"completion_tokens": "many"}}
    assert answer_of(reply) == Answer("x ?", FinishReason.STOP, None)


def test_a_key_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("RECAP_TEST_KEY", raising=False)
    with pytest.raises(PlatformError, match="RECAP_TEST_KEY, found none"):
        ChatClient(replace(SPEC, api_key_env="RECAP_TEST_KEY"), where=lambda: "http://127.0.0.1:1/v1")


@pytest.mark.parametrize(
    ("pages", "asked"), [({"health": 200}, 0), ({"v1_models": 200}, 0), ({}, 1), ({"health": 503}, 1)]
)
def test_a_server_without_a_page_for_its_health_is_asked_a_message(pages, asked):
    with serving(lambda text, times: completion(text), **pages) as server, client(server) as chat:
        chat.check(words("fine"))
        assert len(server.asked) == asked


def test_what_is_forgotten_is_cancelled():
    held = threading.Event()

    def script(text, times):
        held.wait(30)
        return completion(text)

    with serving(script) as server, client(server) as chat:
        answer = ask(chat, "hello")
        chat.forget()
        assert answer.cancelled()
        held.set()


@pytest.mark.parametrize(
    ("said", "meant"),
    [("stop", "stop"), ("eos_token", "stop"), ("stop_sequence", "stop"), ("length", "length")],
)
def test_every_server_s_word_for_an_end_is_one_of_ours(said, meant):
    assert str(answer_of(completion("x", said).body).finish) == meant


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        (completion("x", "content_filter").body, RefusedError),
        (completion("x", "tool_calls").body, UnansweredError),
        ({"choices": []}, UnansweredError),
        ({"error": "x"}, UnansweredError),
        ("x", UnansweredError),
        (None, UnansweredError),
    ],
)
def test_a_reply_that_is_no_answer_has_a_cause(reply, cause):
    with pytest.raises(cause):
        answer_of(reply)


def test_a_wish_to_wait_comes_as_seconds_or_as_a_date():
    assert retry_after_s("3") == 3.0
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert retry_after_s("Fri, 31 Dec 9999 23:59:59 GMT") > 1e9
    assert retry_after_s("soon") is None
    assert retry_after_s(None) is None
