"""What an exported folder looks like: its files, and what they say of each picture

With one epoch:

    webdataset/00000000.tar        KEY.jpg, KEY.txt (the drawn caption), KEY.json; KEY is the uid
    parquet/00000000.parquet       the same rows in the same order, the picture as column jpg

With several, the first one's captions stand in txt and in the columns caption and source; json and the
columns have caption_epoch_N and source_epoch_N as well, and each epoch has its captions by themselves:

    captions/epoch-1/00000000.parquet    uid, caption, source: row by row those of the shard of this number
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from recap_spark.workers.rows import Row

COSINES = ("org_clip_score", "re_clip_score")
"""Names of the published dataset: cosine of the picture and the alt-text, and of the picture and the
recaption.
"""

NO_COSINE = -2.0
"""In json, where there is no such score: no cosine is this small, and any threshold leaves it out."""

_MANIFEST = ("view", "tables", "files", "rows", "left_out")  # of its parts, those by which it is known

_TEXTS = ("uid", "url", "org_caption", "re_caption", "sha256")

CAPTIONS_FILE = r"(^|/)captions/epoch-\d+/\d{8}\.parquet$"
"""A regular expression: the path of a file of captions in a listing."""


def caption_of(epoch: int) -> str:
    return f"caption_epoch_{epoch}"


def source_of(epoch: int) -> str:
    return f"source_epoch_{epoch}"


@dataclass(frozen=True, kw_only=True)
class Fields:
    """What the rows of one export have: the same fields in every row."""

    epochs: tuple[int, ...]
    scored: bool  # whether they have the COSINES

    @property
    def own_epochs(self) -> tuple[int, ...]:
        """The epochs that have columns and files of their own: none where there is only one."""
        return self.epochs if len(self.epochs) > 1 else ()

    @cached_property  # asked for with every row
    def texts(self) -> tuple[str, ...]:
        """Of json, in which txt is not repeated."""
        drawn = (name(epoch) for epoch in self.own_epochs for name in (caption_of, source_of))
        return (*_TEXTS, "source", "captioner", *drawn)

    @property
    def columns(self) -> pa.Schema:
        """Of Parquet with pictures; what is absent is null there, whose types do not depend on values."""
        cosines = [(name, pa.float32()) for name in self._cosines]
        texts = [(name, pa.string()) for name in (*_TEXTS, "caption", *self.texts[len(_TEXTS) :])]
        return pa.schema([*texts, *cosines, ("jpg", pa.binary())])

    def described(self, row: Row) -> dict[str, Any]:
        """The json of a row. No field is missing and none is null: loaders such as Hugging Face's take the
        types of all rows from the first five, and fail at the first text after five nulls. An absent text is
        empty, an absent cosine NO_COSINE.
        """
        texts = {name: row[name] or "" for name in self.texts}
        cosines = {name: NO_COSINE if row[name] is None else row[name] for name in self._cosines}
        return texts | cosines

    @property
    def _cosines(self) -> tuple[str, ...]:
        return COSINES if self.scored else ()


def parse_manifest(content: bytes) -> dict[str, Any] | None:
    """A manifest.json's values; None where it is no export's: other tools give their own files this name."""
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError):
        return None
    is_ours = isinstance(manifest, dict) and all(isinstance(manifest.get(part), dict) for part in _MANIFEST)
    return manifest if is_ours else None


def files_of(shard: int, formats: tuple[str, ...], fields: Fields) -> dict[str, str]:
    """The files of one shard below the folder, by what they are: `webdataset`, `parquet`,
    `captions/epoch-N`.
    """
    suffixes = {"webdataset": "tar", "parquet": "parquet"}
    kinds = {kind: suffixes[kind] for kind in formats}
    kinds |= {f"captions/epoch-{epoch}": "parquet" for epoch in fields.own_epochs}
    return {kind: f"{kind}/{shard:08d}.{suffix}" for kind, suffix in kinds.items()}


def layout_of(formats: tuple[str, ...], fields: Fields) -> dict[str, str]:
    """What a manifest says of the files beside it: each kind's pattern, and what is in it."""
    first = f"epoch {fields.epochs[0]}"
    said = {
        "webdataset": f"KEY.jpg, KEY.txt (the caption of {first}), KEY.json; KEY is the uid; absent values "
        f"are empty in json, scores {NO_COSINE}",
        "parquet": f"the same rows in the same order; caption and source of {first}; absent values are null",
    }
    kinds = {kind: said[kind] for kind in formats}
    for epoch in fields.own_epochs:
        rows = "uid, caption, source; row by row those of the shard of the same number"
        kinds[f"captions/epoch-{epoch}"] = f"of epoch {epoch}: {rows}"
    patterns = files_of(0, formats, fields)
    return {patterns[kind].replace("0" * 8, "NNNNNNNN"): words for kind, words in kinds.items()}
