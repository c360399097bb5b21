"""The slot engine says what transformers' generate says, token for token, whatever it does at once."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Iterator

import pytest
import torch
from laptop import with_captioner
from slot_engine import SPEC, by_generate, engine, in_order, pictures

from recap_spark.errors import PlatformError, WeightsError
from recap_spark.miniature.render import render_scene
from recap_spark.miniature.world import HELD_OUT, draw_scene
from recap_spark.models.llava.engine import EngineLimits, SlotEngine
from recap_spark.models.llava.generation import Generated, generate_greedily
from recap_spark.models.llava.scheduler import Picture, Scheduler
from recap_spark.models.pixels import normalise, to_pixels
from recap_spark.workers.captioning.captioner import Captioner, load_captioner

SCENES = 24
FILL = (122, 116, 104)


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return load_captioner(SPEC, "cpu")


@pytest.fixture(scope="module")
def pixels(captioner: Captioner) -> torch.Tensor:
    """uint8 [24, 3, 64, 64]."""
    scenes = [render_scene(draw_scene(HELD_OUT[number])) for number in range(SCENES)]
    return torch.stack([to_pixels(scene, side=captioner.side, fill=FILL) for scene in scenes])


@pytest.fixture(scope="module")
def expected(captioner: Captioner, pixels: torch.Tensor) -> list[Generated]:
    return by_generate(captioner, pixels)


@pytest.mark.parametrize(("slots", "prefill_batch"), [(1, 1), (5, 2), (8, 8), (64, 24)])
def test_captions_are_those_of_generate_token_for_token(captioner, pixels, expected, slots, prefill_batch):
    assert len({len(caption.tokens) for caption in expected}) > 3
    ours = engine(captioner, slots=slots, prefill_batch=prefill_batch).generate(pictures(pixels))
    assert in_order(ours) == expected


def test_one_engine_serves_one_stream_after_another(captioner, pixels, expected):
    ours = engine(captioner)
    assert in_order(ours.generate(pictures(pixels))) == expected
    assert list(ours.generate([])) == []
    assert in_order(ours.generate(pictures(pixels[:5]))) == expected[:5]


def test_a_stream_that_is_given_up_leaves_nothing_behind(captioner, pixels, expected):
    ours = engine(captioner)
    abandoned = ours.generate(pictures(pixels))
    next(abandoned)
    abandoned.close()
    assert in_order(ours.generate(pictures(pixels))) == expected


def test_the_model_still_generates_on_the_weights_it_shares(captioner, pixels, expected):
    engine(captioner)
    assert by_generate(captioner, pixels) == expected
    layer = captioner.model.model.language_model.layers[0].self_attn
    assert (
        layer.q_proj.weight.untyped_storage().data_ptr() == layer.k_proj.weight.untyped_storage().data_ptr()
    )


@pytest.mark.parametrize("longest", [1, 2, 20])
def test_a_caption_cut_by_the_limit_is_generates_and_says_so(captioner, pixels, longest):
    ours = in_order(engine(captioner).generate(pictures(pixels, longest=longest)))
    assert ours == by_generate(captioner, pixels, max_new_tokens=longest)
    assert {(len(caption.tokens), caption.stopped) for caption in ours} == {(longest, False)}


def test_each_picture_has_its_own_limit(captioner, pixels, expected):
    limits = [3 + number for number in range(SCENES)]
    wanted = [Picture(n, one, limit) for n, (one, limit) in enumerate(zip(pixels, limits, strict=True))]
    ours = in_order(engine(captioner).generate(wanted))
    assert [one.tokens for one in ours] == [
        one.tokens[:limit] for one, limit in zip(expected, limits, strict=True)
    ]


def test_more_new_tokens_than_a_slot_holds_are_refused(captioner, pixels):
    with pytest.raises(ValueError, match="want at most 16 new tokens, found 17"):
        list(engine(captioner, max_new_tokens=16).generate(pictures(pixels, longest=17)))


def test_captions_end_at_every_stop_token(captioner, pixels, expected):
    usual = captioner.model.generation_config.eos_token_id
    assert len(usual) == 2
    # A word in the middle of a caption stands for the stop that this model does not happen to say.
    word = expected[0].tokens[7]
    for stop in (frozenset({word}), frozenset({usual[0], word}), frozenset({usual[1], word})):
        ours = in_order(engine(captioner, stop_ids=stop).generate(pictures(pixels)))
        assert ours == by_generate(captioner, pixels, stop_ids=stop)
        assert ours[0] == Generated(expected[0].tokens[: expected[0].tokens.index(word)], stopped=True)


def test_pictures_are_drawn_as_slots_fall_free(captioner, pixels):
    drawn = 0

    def source() -> Iterator[Picture[int]]:
        nonlocal drawn
        for picture in pictures(pixels):
            drawn += 1
            yield picture

    answers = 0
    for _ in engine(captioner, slots=4, prefill_batch=2).generate(source()):
        assert drawn <= answers + 4 + 4  # those of one step are answered together
        answers += 1
    assert answers == drawn == SCENES


def slot_cost(captioner: Captioner) -> int:
    """Bytes of one slot, as an engine of one and one of two count them."""
    held = []
    for slots in (1, 2):
        one = engine(captioner, slots=slots, prefill_batch=1)
        list(one.generate([]))
        held.append(one.memory.held_bytes)
    return held[1] - held[0]


def test_the_number_of_slots_follows_from_the_memory(captioner, pixels, expected):
    small = engine(captioner, slots=64, prefill_batch=1, memory_bytes=12 * slot_cost(captioner))
    assert in_order(small.generate(pictures(pixels))) == expected
    assert small.slots is not None
    assert 2 <= small.slots.count < 12


def test_memory_that_runs_out_under_way_halves_and_loses_no_caption(captioner, pixels, expected, caplog):
    cost = slot_cost(captioner)
    ours = engine(captioner, slots=8, prefill_batch=4, memory_bytes=1000 * cost)
    answers = ours.generate(pictures(pixels))
    first = [next(answers) for _ in range(3)]
    ours.memory.limit_bytes = 6 * cost + cost // 2
    with caplog.at_level(logging.WARNING):
        rest = list(answers)
    assert in_order(first + rest) == expected
    assert ours.slots is not None
    assert ours.slots.count < 8
    assert ours.prefill_batch < 4
    assert "prompts at once from here on" in caplog.text
    assert "slots instead of 8 from here on" in caplog.text


def test_memory_for_not_one_picture_is_an_error_that_says_how_much_is_wanted(captioner, pixels):
    with pytest.raises(PlatformError, match=r"want \d+ bytes for one picture in one slot"):
        list(engine(captioner, memory_bytes=1000).generate(pictures(pixels)))


def test_a_prompt_that_begins_with_its_image_is_captioned_too(captioner, pixels):
    image = captioner.model.config.image_token_id
    prompt = captioner.prompt_ids[captioner.prompt_ids.index(image) :]
    ours = SlotEngine(
        captioner.model,
        prompt,
        stop_ids=captioner.stop_ids,
        mean=captioner.mean,
        std=captioner.std,
        limits=EngineLimits(
            max_new_tokens=12, slots=4, prefill_batch=2, memory_bytes=None, float8_linears=False
        ),
    )
    normal = normalise(pixels[:6], mean=captioner.mean, std=captioner.std)
    theirs = generate_greedily(
        captioner.model, normal, prompt, max_new_tokens=12, stop_ids=captioner.stop_ids
    )
    assert in_order(ours.generate(pictures(pixels[:6], longest=12))) == theirs


def test_an_image_in_two_places_is_refused(captioner):
    image = captioner.model.config.image_token_id
    with pytest.raises(WeightsError, match="want one run of image tokens"):
        SlotEngine(
            captioner.model,
            [1, image, 2, image],
            stop_ids=captioner.stop_ids,
            mean=captioner.mean,
            std=captioner.std,
            limits=EngineLimits(
                max_new_tokens=12, slots=4, prefill_batch=2, memory_bytes=None, float8_linears=False
            ),
        )


def test_float8_without_its_hardware_is_refused(captioner):
    with pytest.raises(PlatformError, match=r"float8 linears: want .* 8\.9 or more, found cpu"):
        engine(captioner, float8_linears=True)


def held_by(ours: SlotEngine) -> weakref.ref[torch.Tensor]:
    """The largest thing that an engine holds."""
    assert ours.slots is not None
    return weakref.ref(ours.slots.cache[0][0])


def test_an_engine_that_is_dropped_gives_its_memory_back_at_once(captioner, pixels):
    ours = engine(captioner)
    list(ours.generate(pictures(pixels[:2])))
    cache = held_by(ours)
    gc.disable()
    try:
        del ours
        assert cache() is None
    finally:
        gc.enable()


def test_slots_that_are_halved_give_their_memory_back_before_the_new_ones_are_made(captioner, pixels):
    ours = engine(captioner, slots=4, prefill_batch=1)
    list(ours.generate(pictures(pixels[:2])))
    cache, found = held_by(ours), []
    release_all = ours.memory.release_all
    ours.memory.release_all = lambda: (found.append(cache()), release_all())
    gc.disable()
    try:
        ours._halve_slots(Scheduler([], slots=4))
    finally:
        gc.enable()
    assert found == [None]


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def agreement(some: list[Generated], others: list[Generated]) -> float:
    """The share of the second's tokens that the first says too, up to the first that differs."""
    same = sum(len(common(one.tokens, other.tokens)) for one, other in zip(some, others, strict=True))
    return same / sum(len(caption.tokens) for caption in others)


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_s_slots_say_what_it_says_of_one_picture_alone(pixels):
    on_gpu = load_captioner(with_captioner(SPEC, dtype="float32"), "cuda:0")
    alone = [by_generate(on_gpu, one[None].cuda())[0] for one in pixels]
    assert agreement(in_order(engine(on_gpu).generate(pictures(pixels))), alone) >= 0.98


@pytest.mark.gpu
@needs_gpu
def test_in_bfloat16_rounding_changes_as_few_words_as_it_does_in_transformers(captioner):
    """Rounding alone changes words: in transformers too, between one picture alone and many at once."""
    on_gpu = load_captioner(with_captioner(SPEC, dtype="bfloat16"), "cuda:0")
    scenes = [render_scene(draw_scene(number)) for number in HELD_OUT[:96]]
    pixels = torch.stack([to_pixels(scene, side=on_gpu.side, fill=FILL) for scene in scenes])
    exact = by_generate(captioner, pixels)
    alone = [by_generate(on_gpu, one[None].cuda())[0] for one in pixels]
    together = by_generate(on_gpu, pixels.cuda())
    ours = in_order(engine(on_gpu, slots=48).generate(pictures(pixels)))
    print(
        f"\nwith transformers alone: its own 96 at once {agreement(together, alone):.3f}, "
        f"slots {agreement(ours, alone):.3f}; with float32: transformers {agreement(together, exact):.3f}, "
        f"slots {agreement(ours, exact):.3f}"
    )
    assert agreement(ours, alone) >= agreement(together, alone) - 0.04
    assert agreement(ours, exact) >= agreement(together, exact) - 0.05


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("float8", [False, True])
def test_a_dropped_engine_leaves_a_gpu_s_memory_to_the_next(pixels, float8):
    held = []
    gc.disable()
    try:
        for _ in range(2):  # cuBLAS keeps what it takes in the first
            on_gpu = load_captioner(with_captioner(SPEC, dtype="bfloat16"), "cuda:0")
            ours = engine(on_gpu, float8_linears=float8)
            list(ours.generate(pictures(pixels)))
            used = torch.cuda.memory_allocated()
            del ours
            held.append(torch.cuda.memory_allocated())
            assert held[-1] < used - 1_000_000
            del on_gpu
            gc.collect()  # of the model, which is transformers'
    finally:
        gc.enable()
    assert held[0] == held[1]


def common(one: list[int], other: list[int]) -> list[int]:
    """What both begin with."""
    differ = (place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])
    return one[: next(differ, min(len(one), len(other)))]
