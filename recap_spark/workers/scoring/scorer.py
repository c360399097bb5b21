"""Rows of images with their captions → rows of scores"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from recap_spark.settings.model_source import folder_of
from recap_spark.settings.schema import ScoreSettings
from recap_spark.statuses import CaptionStatus
from recap_spark.workers.pictures.pictures import PictureError
from recap_spark.workers.pictures.pixel_decoders import PixelDecoders
from recap_spark.workers.rows import Row
from recap_spark.workers.scoring.checkpoint import ClipInputs, open_clip, tokenise

if TYPE_CHECKING:  # the driver describes a scorer without torch; only workers load one
    from torch import Tensor
    from transformers import CLIPModel

SCORED = pa.schema(
    [
        ("uid", pa.string()),
        ("captioner", pa.string()),
        ("scorer", pa.string()),
        ("status", pa.string()),
        ("cosine", pa.float32()),
        ("pair_preference", pa.float32()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class ScorerSpec:
    """An image-text model whose weights each worker loads, and what its scores are kept under."""

    settings: ScoreSettings
    name: str  # with the fingerprint of all that makes its scores
    original: str  # the captioner that stands for the sample's own alt-text

    @property
    def batch_size(self) -> int:
        """Images at once, each with all its captions."""
        return self.settings.batch_size

    @property
    def decode_threads(self) -> int:
        return self.settings.decode_threads

    def load(self, device: str) -> Scorer:
        return load_scorer(self, device)


@dataclass(frozen=True)
class Scorer:
    """A loaded scorer, and how it wants its pictures and texts."""

    spec: ScorerSpec
    model: CLIPModel
    decoders: PixelDecoders
    inputs: ClipInputs


@dataclass(frozen=True)
class Pairs:
    """One image ready for the model, or None where it does not decode, and its captions by captioner."""

    uid: str
    pixels: Tensor | None  # uint8 [3, S, S]
    captions: dict[str, str]


def load_scorer(spec: ScorerSpec, device: str) -> Scorer:
    """A CLIP in Hugging Face's layout, safetensors only.

    Raises SettingsError for a hub name without a commit, and WeightsError as `open_clip` does.
    """
    import torch
    from transformers import CLIPModel

    settings = spec.settings
    if device == "cpu":
        torch.set_num_threads(settings.engine_threads)
    source = folder_of(settings.scorer, files="all")
    inputs = open_clip(source)
    dtype = getattr(torch, settings.scorer.dtype)
    model: Any = CLIPModel.from_pretrained(source, dtype=dtype, use_safetensors=True)
    return Scorer(
        spec=spec,
        model=model.to(device).eval(),
        decoders=PixelDecoders(settings.decode),
        inputs=inputs,
    )


def prepare_pairs(scorer: Scorer, row: Row) -> Pairs:
    """Decode the image of one row of `uid`, `bytes` and `captions`, a list of {captioner, caption}."""
    from recap_spark.models.pixels import fit_pixels, to_pixels

    captions = {entry["captioner"]: entry["caption"] for entry in row["captions"]}
    try:
        picture = scorer.decoders.decode(row["bytes"])
    except PictureError:
        return Pairs(row["uid"], None, captions)
    if scorer.spec.settings.scorer.fit == "crop":
        return Pairs(row["uid"], fit_pixels(picture, side=scorer.inputs.side), captions)
    red, green, blue = (int(channel * 255) for channel in scorer.inputs.mean)
    return Pairs(row["uid"], to_pixels(picture, side=scorer.inputs.side, fill=(red, green, blue)), captions)


def answer_scores(scorer: Scorer, images: list[Pairs]) -> pa.RecordBatch:
    """One row of SCORED for every caption of every image."""
    seen = [pairs for pairs in images if pairs.pixels is not None and pairs.captions]
    rows = [
        _row(scorer, pairs.uid, who, CaptionStatus.UNDECODABLE)
        for pairs in images
        if pairs.pixels is None
        for who in pairs.captions
    ]
    if seen:
        rows += _scores(scorer, seen)
    return pa.RecordBatch.from_pylist(rows, schema=SCORED)


def _scores(scorer: Scorer, images: list[Pairs]) -> list[Row]:
    import torch

    from recap_spark.models.clip.similarity import cosine, image_features, text_features
    from recap_spark.models.pixels import normalise

    pixels = torch.stack([pairs.pixels for pairs in images if pairs.pixels is not None]).to(
        scorer.model.device
    )
    image_id = image_features(scorer.model, normalise(pixels, mean=scorer.inputs.mean, std=scorer.inputs.std))
    owners = [(place, who) for place, pairs in enumerate(images) for who in pairs.captions]
    texts = [caption for pairs in images for caption in pairs.captions.values()]
    tokens = tokenise(scorer.inputs, texts)
    text_td = text_features(scorer.model, tokens.input_ids, tokens.attention_mask)
    cosines = cosine(image_id[[place for place, _ in owners]], text_td).tolist()
    originals = {place: text_td[at] for at, (place, who) in enumerate(owners) if who == scorer.spec.original}
    return [
        _row(scorer, images[place].uid, who, CaptionStatus.OK)
        | {
            "cosine": score,
            "pair_preference": _preference(scorer, image_id[place], originals.get(place), text_td[at], who),
        }
        for at, ((place, who), score) in enumerate(zip(owners, cosines, strict=True))
    ]


def _preference(
    scorer: Scorer, image_d: Tensor, original_d: Tensor | None, caption_d: Tensor, who: str
) -> float | None:
    from recap_spark.models.clip.similarity import pair_preference

    if original_d is None or who == scorer.spec.original:
        return None
    rule = scorer.spec.settings.scorer
    return pair_preference(
        image_d, original_d, caption_d, features=rule.preference_features, scale=rule.preference_scale
    )


def _row(scorer: Scorer, uid: str, captioner: str, status: CaptionStatus) -> Row:
    return {"uid": uid, "captioner": captioner, "scorer": scorer.spec.name, "status": str(status)}
