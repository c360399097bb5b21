"""Decoders really die here, of signals and of limits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from recap_spark.errors import PlatformError
from recap_spark.statuses import FetchStatus
from recap_spark.workers.pictures.decoders import Parcel, prepare_all
from recap_spark.workers.pictures.pictures import Picture, PictureError

PATIENCE_S = 60.0


def encoded(image, format="PNG", **options):
    out = BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


SMALL = encoded(Image.effect_noise((64, 48), 60))


@pytest.fixture(scope="module")
def large():
    """A picture of few bytes that takes 98 MB and some time to decode."""
    return encoded(Image.new("L", (14_000, 7_000)), compress_level=1)


@pytest.fixture
def decode(decode):
    return replace(decode, largest_pixels=200_000_000)


@pytest.fixture
def prepared(decode, rules):
    """Outcomes by owner, which is the body's place in the list."""

    def prepared(bodies, decode=decode, **changes):
        parcels = (Parcel(place, body, ()) for place, body in enumerate(bodies))
        outcomes = list(prepare_all(parcels, rules=replace(rules, **changes), decode=decode))
        assert len(outcomes) == len(bodies)
        return [outcome.answer for outcome in sorted(outcomes, key=lambda outcome: outcome.owner)]

    return prepared


def until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)
    return found


def who_decodes_the_large_one(own_decoders):
    return [process for process, resident in own_decoders().items() if resident > 60 << 20]


def kill_who_decodes_the_large_one(own_decoders, code):
    os.kill(until(lambda: who_decodes_the_large_one(own_decoders))[0], code)


@pytest.mark.parametrize("code", [signal.SIGSEGV, signal.SIGABRT])
def test_a_decoder_that_crashes_costs_one_picture_its_status(prepared, large, own_decoders, code):
    killer = threading.Thread(target=kill_who_decodes_the_large_one, args=(own_decoders, code))
    killer.start()
    answers = prepared([SMALL, SMALL, large, SMALL, SMALL, SMALL])
    killer.join()
    crash = answers.pop(2)
    assert isinstance(crash, PictureError)
    assert (crash.status, crash.detail) == (FetchStatus.DECODER_CRASH, f"was killed by {code.name}")
    assert {answer.picture for answer in answers} == {Picture(width=64, height=48, format="png")}


def test_a_picture_whose_decoder_somebody_kills_is_decoded_by_another_but_not_a_third_time(
    prepared, large, own_decoders
):
    killed = []

    def kill(times):
        for _ in range(times):
            killed.append(
                until(lambda: set(who_decodes_the_large_one(own_decoders)).difference(killed)).pop()
            )
            os.kill(killed[-1], signal.SIGKILL)

    crash = (FetchStatus.DECODER_CRASH, "was killed by SIGKILL")
    for times, ended in ((1, (None, None)), (2, crash)):
        killer = threading.Thread(target=kill, args=(times,))
        killer.start()
        answers = prepared([SMALL, large, SMALL])
        killer.join()
        assert tuple(getattr(answers[1], name, None) for name in ("status", "detail")) == ended
        assert {answer.picture for answer in answers[::2]} == {Picture(width=64, height=48, format="png")}


def test_a_decoder_that_stands_still_is_given_up_for_another(
    prepared, decode, large, own_decoders, monkeypatch
):
    monkeypatch.setattr("recap_spark.workers.pictures.decoders._LONGEST_START_S", 3.0)

    def stop():
        os.kill(until(lambda: who_decodes_the_large_one(own_decoders))[0], signal.SIGSTOP)

    stopper = threading.Thread(target=stop)
    stopper.start()
    answers = prepared([large, SMALL], replace(decode, cpu_s=0.5))
    stopper.join()
    assert [answer.picture.width for answer in answers] == [14_000, 64]


def test_a_decoder_is_told_no_secrets_of_its_worker(decode, rules, own_decoders, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    outcomes = prepare_all((Parcel(None, SMALL, ()) for _ in range(9)), rules=rules, decode=decode)
    next(outcomes)
    (decoder, *_) = own_decoders()
    assert b"hidden" not in Path(f"/proc/{decoder}/environ").read_bytes()
    outcomes.close()


def test_a_picture_that_takes_too_long_is_a_crash_and_the_next_is_decoded(prepared, decode, large):
    slow, fast = prepared([large, SMALL], replace(decode, cpu_s=0.05))
    assert (slow.status, slow.detail) == (FetchStatus.DECODER_CRASH, "ran out of CPU time")
    assert fast.picture.width == 64


def test_a_picture_that_needs_too_much_memory_is_a_crash_and_the_next_is_decoded(prepared, decode, large):
    swelling, modest = prepared([large, SMALL], replace(decode, memory_bytes=64 << 20))
    assert (swelling.status, swelling.detail) == (FetchStatus.DECODER_CRASH, "needs more than 64 MiB")
    assert modest.picture.width == 64
    enough, _ = prepared([large, SMALL], replace(decode, memory_bytes=160 << 20))
    assert enough.picture.width == 14_000


def test_memory_and_time_are_granted_to_each_picture_anew(prepared, decode):
    body = encoded(Image.effect_noise((1500, 1500), 60).convert("RGB"), compress_level=1)  # 9 MB decoded
    answers = prepared([body] * 12, replace(decode, memory_bytes=24 << 20, cpu_s=1.0))
    assert {answer.picture.width for answer in answers} == {1500}


def test_a_refusal_travels_with_its_reason(prepared):
    page, small, damaged = prepared([b"<html>", SMALL, SMALL[:500]], min_image_size=48)
    assert (page.status, page.detail) == (FetchStatus.NOT_AN_IMAGE, "starts with 3c 68 74 6d 6c 3e")
    assert small.encoded is None
    assert damaged.status == FetchStatus.UNDECODABLE


def test_pictures_come_back_to_whom_they_belong_encoded_or_kept(prepared):
    bodies = [encoded(Image.new("RGB", (20 + place, 20))) for place in range(60)]
    answers = prepared(bodies, decode_processes=3, resize_mode="no", reencode="always")
    assert [answer.picture.width for answer in answers] == [20 + place for place in range(60)]
    for place, answer in enumerate(answers):
        with Image.open(BytesIO(answer.encoded)) as image:
            assert image.width == 20 + place


def test_a_body_and_an_answer_may_be_larger_than_any_pipe(prepared):
    noise = encoded(Image.effect_noise((1500, 1500), 60).convert("RGB"), compress_level=0)
    (answer,) = prepared([noise], reencode="always", encode_quality=0)
    assert len(noise) > 6 << 20
    assert len(answer.encoded) > 6 << 20


def test_what_has_no_body_is_handed_on(prepared):
    first, second, third = prepared([None, SMALL, None])
    assert first is None
    assert third is None
    assert second.picture.height == 48


def test_no_process_is_left_when_all_is_done_or_nobody_asks_any_more(prepared, decode, rules, own_decoders):
    prepared([SMALL] * 3, decode_processes=2)
    assert own_decoders() == {}
    parcels = (Parcel(None, SMALL, ()) for _ in range(50))
    outcomes = prepare_all(parcels, rules=replace(rules, decode_processes=2), decode=decode)
    next(outcomes)
    assert own_decoders()
    outcomes.close()
    assert own_decoders() == {}


def test_parcels_are_drawn_only_as_fast_as_outcomes_are_taken(decode, rules):
    drawn = 0

    def parcels():
        nonlocal drawn
        for _ in range(50):
            drawn += 1
            yield Parcel(None, SMALL, ())

    outcomes = prepare_all(parcels(), rules=rules, decode=decode)
    for taken in range(1, 10):
        next(outcomes)
        assert drawn <= taken + 2
    outcomes.close()


PARENT = """
import sys
from recap_spark.settings.pictures import DecodeLimits
from recap_spark.workers.pictures.decoders import Parcel, prepare_all
from recap_spark.settings.pictures import PictureRules

rules, decode = PictureRules(**eval(sys.argv[1])), DecodeLimits(**eval(sys.argv[2]))
body = open(sys.argv[3], "rb").read()
for _ in prepare_all((Parcel(None, body, ()) for _ in range(9)), rules=rules, decode=decode):
    print("decoded", flush=True)
    sys.stdin.read()
"""


def test_a_decoder_ends_with_the_worker_that_is_killed(decode, rules, tmp_path):
    (tmp_path / "a.png").write_bytes(SMALL)
    command = [sys.executable, "-c", PARENT, repr(vars(rules)), repr(vars(decode)), str(tmp_path / "a.png")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        worker.stdout.readline()
        children = [
            int(folder.name)
            for folder in Path("/proc").iterdir()
            if folder.name.isdigit() and parent_of(folder) == worker.pid
        ]
        assert len(children) == 1
        worker.kill()
        until(lambda: not is_running(children[0]))


def parent_of(folder):
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def is_running(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_decoder_that_cannot_start_is_an_error_of_the_machine(prepared, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(PlatformError, match="decodes pictures, found that it ended with exit code 1"):
        prepared([SMALL])
