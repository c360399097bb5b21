"""The columns of the kinds of published metadata"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import types as T


@dataclass(frozen=True)
class Layout:
    """The columns of one kind of published metadata; the first ones are required, the others null when
    absent.
    """

    required: dict[str, T.DataType]
    optional: dict[str, T.DataType]

    @property
    def columns(self) -> dict[str, T.DataType]:
        return self.required | self.optional


DATACOMP = Layout(
    required={"uid": T.StringType(), "url": T.StringType(), "text": T.StringType()},
    optional={
        "original_width": T.LongType(),
        "original_height": T.LongType(),
        "clip_b32_similarity_score": T.FloatType(),
        "clip_l14_similarity_score": T.FloatType(),
        "face_bboxes": T.ArrayType(T.ArrayType(T.DoubleType())),
        "sha256": T.StringType(),
    },
)
"""mlfoundations/datacomp: metadata of CommonPool and DataComp-1B."""

RECAP = Layout(
    required={"url": T.StringType(), "re_caption": T.StringType()},
    optional={
        "org_caption": T.StringType(),
        "sha256": T.StringType(),
        "key": T.StringType(),
        "re_clip_score": T.DoubleType(),
        "org_clip_score": T.DoubleType(),
        "re_length": T.LongType(),
        "org_length": T.LongType(),
        "re_gpt4v_score": T.LongType(),
        "org_gpt4v_score": T.LongType(),
    },
)
"""UCSC-VLAA/Recap-DataComp-1B, default configuration."""

LAYOUTS = {"datacomp": DATACOMP, "recap": RECAP}
"""By what the settings call them."""
