"""Pixels come from processes that really die here, and each death costs one picture."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import numpy as np
import process_tree
import pytest
from PIL import ExifTags, Image

from recap_spark.errors import PlatformError
from recap_spark.settings.pictures import DecodeLimits
from recap_spark.statuses import FetchStatus
from recap_spark.workers.pictures.pictures import PictureError, decode_rgb
from recap_spark.workers.pictures.pixel_decoders import PixelDecoders

LIMITS = DecodeLimits(largest_pixels=100_000_000, memory_bytes=1 << 30, cpu_s=20.0)
PATIENCE_S = 60.0


def encoded(image, format="PNG", **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def noise(mode="RGB", size=(40, 30)):
    return Image.effect_noise(size, 60).convert(mode)


def large():
    """A picture of few bytes whose pixels are 98 MB, and three times that as RGB."""
    return encoded(Image.new("L", (14_000, 7_000)), compress_level=1)


@pytest.fixture
def decoders():
    made = PixelDecoders(LIMITS)
    yield made
    made.close()


def until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def kill_who_decodes_the_large_one(own_decoders, code):
    """Returns the process that it was."""
    until(lambda: max(own_decoders().values(), default=0) > 60 << 20)
    largest, _ = max(own_decoders().items(), key=lambda process: process[1])
    os.kill(largest, code)
    return largest


def ending(decoders, body):
    with pytest.raises(PictureError) as caught:
        decoders.decode(body)
    return caught.value.status, caught.value.detail


def test_the_pixels_are_those_that_this_process_would_decode(decoders, own_decoders):
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    bodies = [
        encoded(noise(), "JPEG", exif=turned),
        encoded(noise(size=(900, 700)), "JPEG", progressive=True),  # larger than what a place keeps
        encoded(noise("RGBA")),
        encoded(noise("P"), "GIF"),
        encoded(noise("CMYK"), "TIFF"),
        encoded(noise(), "WEBP"),
    ]
    for body in bodies:
        expected = decode_rgb(body, largest_pixels=LIMITS.largest_pixels)
        assert np.array_equal(np.asarray(decoders.decode(body)), np.asarray(expected))
    assert len(own_decoders()) == 1


def test_what_is_no_picture_says_so(decoders):
    assert ending(decoders, b"<html>") == (FetchStatus.NOT_AN_IMAGE, "starts with 3c 68 74 6d 6c 3e")
    assert ending(decoders, encoded(noise())[:300])[0] == FetchStatus.UNDECODABLE
    with closing(PixelDecoders(replace(LIMITS, largest_pixels=1000, memory_bytes=64 << 20))) as modest:
        assert ending(modest, encoded(noise())) == (FetchStatus.TOO_MANY_PIXELS, "40 x 30")
    with closing(PixelDecoders(replace(LIMITS, memory_bytes=64 << 20))) as swelling:
        assert ending(swelling, large()) == (FetchStatus.DECODER_CRASH, "needs more than 64 MiB")


def test_a_picture_that_takes_too_long_kills_its_decoder_and_the_next_one_is_decoded():
    with closing(PixelDecoders(replace(LIMITS, cpu_s=0.05))) as hasty:
        assert ending(hasty, large()) == (FetchStatus.DECODER_CRASH, "ran out of CPU time")
        assert hasty.decode(encoded(noise())).size == (40, 30)


def test_a_decoder_that_somebody_ended_while_it_was_idle_costs_no_picture(decoders, own_decoders):
    decoders.decode(encoded(noise()))
    (idle,) = own_decoders()
    os.kill(idle, signal.SIGKILL)
    until(lambda: process_tree.resident_bytes(idle) == 0)
    assert decoders.decode(encoded(noise())).size == (40, 30)


def test_a_machine_that_kills_decoders_is_at_fault_and_not_the_picture(decoders, own_decoders):
    def kill_who_decodes(times):
        for _ in range(times):
            killed = kill_who_decodes_the_large_one(own_decoders, signal.SIGKILL)
            until(lambda killed=killed: process_tree.resident_bytes(killed) == 0)

    with ThreadPoolExecutor(1) as threads:
        killing = threads.submit(kill_who_decodes, 1)
        assert decoders.decode(large()).size == (14_000, 7_000)
        killing.result()
        decoders.close()
        killing = threads.submit(kill_who_decodes, 2)
        with pytest.raises(PlatformError, match=r"decode\.memory_bytes .* was killed by SIGKILL"):
            decoders.decode(large())
        killing.result()


def test_a_decoder_that_dies_takes_no_other_thread_s_picture_along(decoders, own_decoders):
    small = [encoded(noise(size=(20 + place, 20))) for place in range(40)]
    killer = threading.Thread(target=kill_who_decodes_the_large_one, args=(own_decoders, signal.SIGSEGV))
    killer.start()
    with ThreadPoolExecutor(3) as threads:
        dying = threads.submit(ending, decoders, large())
        sizes = list(threads.map(lambda body: decoders.decode(body).size, small))
    killer.join()
    assert dying.result() == (FetchStatus.DECODER_CRASH, "was killed by SIGSEGV")
    assert sizes == [(20 + place, 20) for place in range(40)]
    assert 1 <= len(own_decoders()) <= 3


def test_the_processes_go_with_the_decoders(own_decoders):
    made = PixelDecoders(LIMITS)
    made.decode(encoded(noise()))
    assert own_decoders()
    del made
    gc.collect()
    assert not own_decoders()


def test_a_decoder_that_cannot_start_is_an_error_of_the_machine(decoders, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(PlatformError, match="decodes pictures, found that it ended with exit code 1"):
        decoders.decode(encoded(noise()))
