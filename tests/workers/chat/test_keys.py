"""The key of a chat server is read from the environment, and shown nowhere."""

from dataclasses import replace

import pytest
from scripted_chat import SPEC, Reply, ask, client, completion, serving

from recap_spark.errors import PlatformError
from recap_spark.workers.chat.client import ChatClient


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
        ChatClient(
            replace(SPEC, api_key_env="RECAP_TEST_KEY"), model="small", where=lambda: "http://127.0.0.1:1/v1"
        )
    assert "canary" not in str(raised.value)


def test_a_key_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("RECAP_TEST_KEY", raising=False)
    with pytest.raises(PlatformError, match="RECAP_TEST_KEY, found none"):
        ChatClient(
            replace(SPEC, api_key_env="RECAP_TEST_KEY"), model="small", where=lambda: "http://127.0.0.1:1/v1"
        )
