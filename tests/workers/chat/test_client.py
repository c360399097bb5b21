"""A chat server is asked by many at once, again where that may help, and blamed where it is at fault."""

import gc
import threading
from dataclasses import replace

import pytest
from scripted_chat import SPEC, Reply, ask, client, completion, serving, words

from recap_spark.errors import PlatformError
from recap_spark.statuses import FinishReason
from recap_spark.workers.chat.client import ChatClient
from recap_spark.workers.chat.replies import Answer, RefusedError, UnansweredError


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
        chat = ChatClient(SPEC, model="small", where=lambda: next(places))
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


def test_a_client_that_is_dropped_ends_its_thread():
    with serving(lambda text, times: completion(text)) as server:
        before = set(threading.enumerate())
        chat = ChatClient(SPEC, model="small", where=lambda: server.url)
        (thread,) = (one for one in set(threading.enumerate()) - before if one.name == "chat")
        assert ask(chat, "hello").result().text == "hello"
        del chat
        gc.collect()
        thread.join(30)
        assert not thread.is_alive()


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
