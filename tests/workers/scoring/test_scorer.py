"""The bundled CLIP through the scorer's own loading code."""

import io

import pyarrow as pa
import pytest
import torch
from laptop import scorer
from PIL import Image

from recap_spark.miniature.language import describe
from recap_spark.miniature.render import render_bytes
from recap_spark.miniature.world import HELD_OUT, draw_scene
from recap_spark.models.clip.similarity import pair_preference
from recap_spark.workers.partition import run_partition
from recap_spark.workers.scoring.scorer import ScorerSpec, answer_scores, prepare_pairs

SPEC = scorer()


def scores(rows: list[dict[str, object]], spec: ScorerSpec = SPEC) -> list[dict[str, object]]:
    parts = [pa.RecordBatch.from_pylist(rows)]
    answers = run_partition(
        parts, spec=spec, device=lambda: "cpu", prepare=prepare_pairs, answer=answer_scores
    )
    return [row for batch in answers for row in batch.to_pylist()]


def row(number: int, **captions: str) -> dict[str, object]:
    entries = [{"captioner": who, "caption": caption} for who, caption in captions.items()]
    picture = render_bytes(draw_scene(HELD_OUT[number]))
    return {"uid": f"{number:032x}", "bytes": picture, "captions": entries}


def test_a_true_description_scores_above_another_picture_s():
    rows = [
        row(n, true=describe(draw_scene(HELD_OUT[n])), other=describe(draw_scene(HELD_OUT[n + 20])))
        for n in range(20)
    ]
    cosines = {(r["uid"], r["captioner"]): r["cosine"] for r in scores(rows)}
    better = sum(cosines[r["uid"], "true"] > cosines[r["uid"], "other"] for r in rows)
    assert better >= 19
    assert all(-1 <= cosine <= 1 for cosine in cosines.values())


def test_the_preference_is_a_share_against_the_original_and_the_original_has_none():
    (original, recaption) = scores([row(1, original="IMG_2041.jpg", ours=describe(draw_scene(HELD_OUT[1])))])
    assert (original["captioner"], original["pair_preference"]) == ("original", None)
    share = 1 / (1 + torch.tensor((original["cosine"] - recaption["cosine"]) * 100.0).exp())
    assert recaption["pair_preference"] == pytest.approx(float(share), abs=1e-4)


def test_without_an_original_there_is_a_cosine_and_no_preference():
    (only,) = scores([row(2, ours="a small red circle")])
    assert only["pair_preference"] is None
    assert only["cosine"] is not None


def test_bytes_that_do_not_decode_give_each_caption_a_status():
    broken = row(3, original="a", ours="b") | {"bytes": b"\x89PNG\r\n\x1a\n"}
    answered = scores([broken, row(4, ours="c")])
    assert sorted((r["captioner"], r["status"]) for r in answered) == [
        ("original", "undecodable"),
        ("ours", "ok"),
        ("ours", "undecodable"),
    ]


def test_a_picture_that_kills_its_decoder_costs_its_own_captions_a_status():
    slow = io.BytesIO()
    Image.new("L", (9_000, 9_000)).save(slow, "PNG", compress_level=1)
    decode = {"largest_pixels": 100_000_000, "memory_bytes": 1 << 30, "cpu_s": 0.3}
    deadly = row(3, ours="a") | {"bytes": slow.getvalue()}
    answered = scores([row(1, ours="b"), deadly, row(2, ours="c")], scorer(decode=decode))
    assert {r["uid"]: r["status"] for r in answered} == {
        f"{1:032x}": "ok",
        f"{2:032x}": "ok",
        f"{3:032x}": "undecodable",
    }


def test_a_text_longer_than_the_model_takes_is_cut_not_refused():
    (long,) = scores([row(5, ours="circle " * 5_000)])
    assert long["status"] == "ok"


def test_raw_features_and_a_scale_change_the_share_as_defined():
    image, original, caption = torch.tensor([3.0, 0.0]), torch.tensor([1.0, 1.0]), torch.tensor([2.0, 0.0])
    raw = pair_preference(image, original, caption, features="raw", scale=1.0)
    assert raw == pytest.approx(float(torch.tensor([3.0, 6.0]).softmax(0)[1]))
    unit = pair_preference(image, original, caption, features="normalised", scale=1.0)
    assert unit == pytest.approx(float(torch.tensor([0.5**0.5, 1.0]).softmax(0)[1]))


def test_both_ways_to_fit_a_picture_work():
    assert scores([row(6, ours="x")], scorer(scorer__fit="crop"))[0]["status"] == "ok"
