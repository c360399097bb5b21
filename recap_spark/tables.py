"""The tables, in the order the data meets them: samples → images → captions → scores → ratings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from pyspark.sql import DataFrame
from pyspark.sql import types as T

from recap_spark.errors import ContractError
from recap_spark.statuses import CaptionStatus, FetchStatus, FinishReason, RejectReason

ORIGINAL = "original"
"""The captioner's name under which a sample's own alt-text is scored and rated."""


@dataclass(frozen=True)
class Table:
    """What a Delta table promises its readers."""

    name: str
    made_by: str  # the stage that makes it
    comment: str
    key: tuple[str, ...]
    schema: T.StructType
    # columns whose minimum and maximum the log keeps: short, and never words or urls
    indexed: tuple[str, ...]
    checks: dict[str, str]  # constraint name → SQL condition that every row meets
    blob: bool = False  # carries encoded images, which a codec can only slow down

    @property
    def loose(self) -> T.StructType:
        """The schema a UDF declares. Spark fails a null in a not-null UDF column with a bare
        NullPointerException; declared nullable here, Delta names the column at the write instead."""
        return T.StructType([T.StructField(f.name, f.dataType, True, f.metadata) for f in self.schema])

    def conform(self, frame: DataFrame) -> DataFrame:
        """Put the columns in contract order. Raises ContractError naming every difference in name or type."""
        found = {field.name: field.dataType.simpleString() for field in frame.schema}
        wanted = {field.name: field.dataType.simpleString() for field in self.schema}
        wrong = [
            f"{name}: want {wanted.get(name, 'no such column')}, found {found.get(name, 'none')}"
            for name in wanted | found
            if wanted.get(name) != found.get(name)
        ]
        if wrong:
            raise ContractError(f"{self.name}: " + "; ".join(wrong))
        return frame.select(*wanted)


# Spelled out, because Spark parses type names only once a session is there.
_TYPES: dict[str, T.DataType] = {
    "string": T.StringType(),
    "bigint": T.LongType(),
    "int": T.IntegerType(),
    "float": T.FloatType(),
    "boolean": T.BooleanType(),
    "binary": T.BinaryType(),
    "timestamp": T.TimestampType(),
    "array<array<double>>": T.ArrayType(T.ArrayType(T.DoubleType())),
}


def _schema(*columns: tuple[str, str, str], required: Iterable[str]) -> T.StructType:
    needed = set(required)
    return T.StructType(
        [
            T.StructField(name, _TYPES[kind], name not in needed, {"comment": comment})
            for name, kind, comment in columns
        ]
    )


def _one_of(column: str, words: type[StrEnum]) -> str:
    return f"{column} IN ({', '.join(repr(str(word)) for word in words)})"


_UID = ("uid", "string", "DataComp's identity of the pair: 32 lower-case hexadecimal digits")
# At a fifth of the cost of the regular expression.
_UID_CHECK = {"uid_is_md5_like": "octet_length(uid) = 32 AND unhex(uid) IS NOT NULL AND lower(uid) = uid"}

SAMPLES = Table(
    name="samples",
    made_by="ingest",
    comment="One row per image-text pair of the metadata, as the curators published it",
    key=("uid",),
    schema=_schema(
        _UID,
        ("original_width", "bigint", "pixels, at curation time"),
        ("original_height", "bigint", "pixels, at curation time"),
        ("clip_b32_similarity_score", "float", "cosine of image and alt-text by CLIP ViT-B/32, as published"),
        ("clip_l14_similarity_score", "float", "cosine of image and alt-text by CLIP ViT-L/14, as published"),
        ("sha256", "string", "expected hash of the image's bytes, 64 hexadecimal digits; null when unknown"),
        ("source_row", "bigint", "row of the file, from 0"),
        ("source_file", "string", "metadata file the row came from"),
        (
            "face_bboxes",
            "array<array<double>>",
            "[x0, y0, x1, y1] of each face, 0 to 1 of the unrotated picture",
        ),
        ("url", "string", "where the image was"),
        ("org_caption", "string", "alt-text, byte escapes repaired; null when the page had none"),
        required=("uid", "source_row", "source_file", "url"),
    ),
    indexed=(
        "uid",
        "original_width",
        "original_height",
        "clip_b32_similarity_score",
        "clip_l14_similarity_score",
    ),
    checks=_UID_CHECK,
)

REJECTS = Table(
    name="rejects",
    made_by="ingest",
    comment="Rows and files that ingest refused: nothing is dropped silently",
    key=("source_file", "source_row"),
    schema=_schema(
        ("source_row", "bigint", "row of the file, from 0; null when the whole file was refused"),
        ("reason", "string", "one of a closed set"),
        ("source_file", "string", "metadata file the row came from"),
        ("raw", "string", "the row as JSON, or what is wrong with the file"),
        required=("reason", "source_file"),
    ),
    indexed=("source_row", "reason"),
    checks={"reason_is_known": _one_of("reason", RejectReason)},
)

IMAGES = Table(
    name="images",
    made_by="fetch",
    comment="One row per sample that was fetched: its bytes, or why there are none",
    key=("uid",),
    schema=_schema(
        _UID,
        ("status", "string", "ok, or why there are no bytes; one of a closed set"),
        (
            "sha256_matches",
            "boolean",
            "whether the bytes are the ones the metadata promised; null when unknown",
        ),
        ("width", "int", "pixels of `bytes`, as stored, before EXIF orientation"),
        ("height", "int", "as width; what was re-encoded is upright"),
        ("format", "string", "of `bytes`: jpeg, png, webp, …, by the bytes and not by the server's word"),
        ("attempts", "int", "fetches tried so far"),
        ("fetched_at", "timestamp", "when the last attempt ended"),
        ("sha256", "string", "hash of the bytes received, before any re-encoding"),
        ("md5", "string", "as sha256; null unless compute_hash asked for it"),
        ("sha512", "string", "as sha256; null unless compute_hash asked for it"),
        ("detail", "string", "free text beside the status"),
        ("exif", "string", "JSON of the EXIF received; null unless extract_exif asked for it"),
        ("bytes", "binary", "the encoded image as it came, or re-encoded; null unless status is ok"),
        required=("uid", "status", "attempts", "fetched_at"),
    ),
    indexed=("uid", "status", "width", "height", "format", "attempts", "fetched_at"),
    checks=_UID_CHECK | {"status_is_known": _one_of("status", FetchStatus)},
    blob=True,
)

CAPTIONS = Table(
    name="captions",
    made_by="caption",
    comment="One row per image and captioner",
    key=("uid", "captioner"),
    schema=_schema(
        _UID,
        ("captioner", "string", "key of the table captioners"),
        ("status", "string", "ok, or why there is no caption; one of a closed set"),
        ("finish_reason", "string", "stop, or length when the limit cut it; null when nothing was generated"),
        ("tokens", "int", "tokens generated, stop token included; null when unknown"),
        ("caption", "string", "null unless status is ok"),
        required=("uid", "captioner", "status"),
    ),
    indexed=("uid", "captioner", "status", "finish_reason", "tokens"),
    checks=_UID_CHECK
    | {
        "status_is_known": _one_of("status", CaptionStatus),
        "finish_reason_is_known": f"finish_reason IS NULL OR {_one_of('finish_reason', FinishReason)}",
    },
)

CAPTIONERS = Table(
    name="captioners",
    made_by="caption",
    comment="What made each caption: a captioner's name carries the fingerprint of everything here",
    key=("captioner",),
    schema=_schema(
        ("captioner", "string", "name and the first digits of the fingerprint"),
        ("fingerprint", "string", "sha256 over all that follows"),
        ("model", "string", "folder or hub name"),
        ("revision", "string", "commit on the hub; null for a folder"),
        ("weights_sha256", "string", "hash of the weight files; null for captions made elsewhere"),
        ("parts", "string", "JSON: tokenizer and vision tower, where the model does not bring them"),
        ("prompt", "string", "the user's turn"),
        ("template", "string", "name@version of the conversation template; null for the model's own"),
        ("chat_template", "string", "template that the prompt was put into"),
        ("decoding", "string", "JSON: strategy, limit of new tokens, stop tokens"),
        ("dtype", "string", "of weights and arithmetic"),
        required=("captioner", "fingerprint", "model"),
    ),
    indexed=("captioner",),
    checks={},
)

SCORES = Table(
    name="scores",
    made_by="score",
    comment="One row per image, caption and scorer; the sample's own alt-text is the captioner 'original'",
    key=("uid", "captioner", "scorer"),
    schema=_schema(
        _UID,
        ("captioner", "string", "whose caption; 'original' is the alt-text"),
        ("scorer", "string", "name, and the first digits of the fingerprint of its weights and settings"),
        ("status", "string", "ok, or undecodable; one of a closed set"),
        ("cosine", "float", "of the normalised image and caption features, -1 to 1"),
        ("pair_preference", "float", "softmax share against the original, 0 to 1; null for 'original'"),
        required=("uid", "captioner", "scorer", "status"),
    ),
    indexed=("uid", "captioner", "scorer", "status", "cosine", "pair_preference"),
    checks=_UID_CHECK
    | {
        "status_is_known": _one_of("status", CaptionStatus),
        "cosine_is_bounded": "cosine IS NULL OR abs(cosine) <= 1.001",
    },
)

RATINGS = Table(
    name="ratings",
    made_by="ingest",
    comment="One row per image, caption and judge",
    key=("uid", "captioner", "judge"),
    schema=_schema(
        _UID,
        ("captioner", "string", "whose caption; 'original' is the alt-text"),
        ("judge", "string", "who rated"),
        ("rating", "int", "1 to 5"),
        ("reason", "string", "the judge's words; null when it gave none"),
        required=("uid", "captioner", "judge", "rating"),
    ),
    indexed=("uid", "captioner", "judge", "rating"),
    checks=_UID_CHECK | {"rating_is_1_to_5": "rating BETWEEN 1 AND 5"},
)

ALL = (SAMPLES, REJECTS, IMAGES, CAPTIONS, CAPTIONERS, SCORES, RATINGS)
