"""A reply is an answer, or has a cause for being none."""

import pytest
from scripted_chat import completion

from recap_spark.statuses import FinishReason
from recap_spark.workers.chat.replies import Answer, RefusedError, UnansweredError, answer_of


def test_half_a_surrogate_and_a_count_that_is_none_do_not_break_a_row():
    reply = completion("x \ud83d").body | {"usage": {"completion_tokens": "many"}}
    assert answer_of(reply) == Answer("x ?", FinishReason.STOP, None)


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
