"""The settings of what comes in from outside: metadata, with the conditions on it by DataComp's names, and
pictures that are there already
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recap_spark.settings.section import Section
from recap_spark.settings.values import Cosine, Count, Fraction, Place


class BasicFilter(Section):
    """DataComp's basic filter: English, more than 2 words and 5 characters, the shorter side of at least 200
    pixels, the longer at most 3 times as long (DataComp, baselines/apply_filter.py).
    """

    name: Literal["basic"]


class CaptionFilter(Section):
    """DataComp's caption filter, a part of its image-based one: English, more than 1 word and 5
    characters.
    """

    name: Literal["caption"]


class _ClipScore(Section):
    arch: Literal["b32", "l14"]

    @property
    def column(self) -> str:
        return f"clip_{self.arch}_similarity_score"


class ClipThresholdFilter(_ClipScore):
    """CLIP score of image and alt-text, as published, of at least a threshold."""

    name: Literal["clip_score_threshold"]
    threshold: Cosine


class ClipFractionFilter(_ClipScore):
    """CLIP score, as published, among the best fraction of all rows of ingest.source, whatever else leaves
    them out.
    """

    name: Literal["clip_score_fraction"]
    fraction: Fraction


Filter = Annotated[
    BasicFilter | CaptionFilter | ClipThresholdFilter | ClipFractionFilter, Field(discriminator="name")
]


class IngestSettings(Section):
    """metadata files → samples."""

    source: Place
    layout: Literal["datacomp", "recap"]
    longest_text: Count
    caption_cap: Count
    files_per_commit: Count
    rows_per_batch: Count
    subset: Place | None
    filters: tuple[Filter, ...]
    language_model: Place | None
    published_captioner: str
    published_scorer: str
    published_judge: str


class ImportSettings(Section):
    """shards of pictures + samples → images; by the rules of fetch where those speak of pictures."""

    source: Place | None
    files_per_commit: Count
    tasks_per_commit: Count
