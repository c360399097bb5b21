"""numbers → Parquet files like DataComp's metadata: its types, its lengths, its few faults"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recap_spark.miniature.dataset import METADATA_SCHEMA

_ROWS_PER_FILE = 250_000
_FRAGMENTS = 20_000  # three of them make a text: far more texts than rows, so nothing is dictionary-encoded
_WORDS = 4_000
_HOSTS = 5_000
_FOLDERS = 500
_ENDLESS = 150_000  # characters, past the longest text that ingest takes

# As rare as in CommonPool, or more frequent.
_SHARES = {
    "null_uid": 2e-4,
    "malformed_uid": 2e-4,
    "empty_url": 2e-4,
    "ftp_url": 2e-4,
    "endless_text": 2e-6,
    "null_text": 1e-3,
    "repeated_row": 5e-4,
    "conflicting_uid": 5e-4,
}
_RARE_WORDS = ("café", "Ångström", "日本の写真", "Москва", "naïve", "Curaçao", "❤")
_ESCAPED_WORDS = (r"Nestl\xc3\xa9", r"Coca-Cola\xc2\xae", r"it\xe2\x80\x99s", r"\xff\xfe")
_ENDINGS = ("jpg", "jpg", "jpg", "png", "webp")


@dataclass(frozen=True)
class _Pools:
    """What urls and texts are put together from."""

    hosts: pa.Array
    folders: pa.Array
    endings: pa.Array
    fragments: pa.Array


def write_metadata(folder: Path, *, rows: int, name: str, seed: int) -> None:
    """Write `<name>-<number>.parquet`, a quarter of a million rows each; files that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    pools = _pools(random.Random(seed))
    for number, first in enumerate(range(0, rows, _ROWS_PER_FILE)):
        path = folder / f"{name}-{number:03}.parquet"
        if path.exists():
            continue
        chance = np.random.default_rng([seed, number])
        partial = path.with_suffix(".partial")
        pq.write_table(_damaged(_sound(min(_ROWS_PER_FILE, rows - first), pools, chance), chance), partial)
        partial.rename(path)


def _pools(chance: random.Random) -> _Pools:
    syllables = [consonant + vowel for consonant in "bcdfghklmnprstvw" for vowel in "aeiou"]
    plain = ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(_WORDS)]
    words = [*plain, *_RARE_WORDS * 20, *_ESCAPED_WORDS * 2]
    return _Pools(
        hosts=pa.array([f"https://www.{''.join(chance.choices(plain, k=2))}.com" for _ in range(_HOSTS)]),
        folders=pa.array([f"images/{'/'.join(chance.choices(plain, k=3))}" for _ in range(_FOLDERS)]),
        endings=pa.array(_ENDINGS),
        fragments=pa.array(
            [" ".join(chance.choices(words, k=chance.randint(2, 5))) for _ in range(_FRAGMENTS)]
        ),
    )


def _sound(rows: int, pools: _Pools, chance: np.random.Generator) -> pa.Table:
    names = _joined(_hexadecimal(rows, 16, chance), _drawn(pools.endings, rows, chance), by=".")
    texts = [_drawn(pools.fragments, rows, chance) for _ in range(3)]
    columns = {
        "uid": _hexadecimal(rows, 32, chance),
        "url": _joined(_drawn(pools.hosts, rows, chance), _drawn(pools.folders, rows, chance), names, by="/"),
        "text": _joined(*texts, by=" "),
        "original_width": pa.array(chance.integers(150, 3000, rows)),
        "original_height": pa.array(chance.integers(150, 3000, rows)),
        "clip_b32_similarity_score": pa.array(chance.normal(0.24, 0.05, rows).astype(np.float32)),
        "clip_l14_similarity_score": pa.array(chance.normal(0.21, 0.06, rows).astype(np.float32)),
        "face_bboxes": _faces(rows, chance),
        "sha256": _hexadecimal(rows, 64, chance),
    }
    return pa.table(columns, schema=METADATA_SCHEMA)


def _damaged(table: pa.Table, chance: np.random.Generator) -> pa.Table:
    rows = table.num_rows
    hit = {fault: chance.random(rows) < share for fault, share in _SHARES.items()}
    others = np.where(hit["repeated_row"], chance.integers(0, rows, rows), np.arange(rows))
    table = table.take(pa.array(others))
    uid, url, text = (table[name].combine_chunks() for name in ("uid", "url", "text"))
    uid = uid.take(
        pa.array(np.where(hit["conflicting_uid"], chance.integers(0, rows, rows), np.arange(rows)))
    )
    uid = pc.if_else(pa.array(hit["malformed_uid"]), pc.utf8_upper(uid), uid)
    uid = pc.if_else(pa.array(hit["null_uid"]), None, uid)
    url = pc.if_else(pa.array(hit["empty_url"]), "", url)
    url = pc.if_else(
        pa.array(hit["ftp_url"]), pc.replace_substring(url, "https", "ftp", max_replacements=1), url
    )
    text = pc.if_else(pa.array(hit["null_text"]), None, text)
    endless = pa.array(["x" * _ENDLESS] * int(hit["endless_text"].sum()), pa.string())
    text = pc.replace_with_mask(text, pa.array(hit["endless_text"]), endless)
    for name, column in (("uid", uid), ("url", url), ("text", text)):
        table = table.set_column(table.schema.get_field_index(name), METADATA_SCHEMA.field(name), column)
    return table


def _hexadecimal(rows: int, digits: int, chance: np.random.Generator) -> pa.StringArray:
    offsets = np.arange(rows + 1, dtype=np.int32) * digits
    words = chance.bytes(rows * digits // 2).hex().encode()
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(words))


def _faces(rows: int, chance: np.random.Generator) -> pa.ListArray:
    """A quarter of the pictures show faces, up to three."""
    faces = np.where(chance.random(rows) < 0.25, chance.integers(1, 4, rows), 0)
    ends = np.concatenate([[0], np.cumsum(faces)]).astype(np.int32)
    corners = pa.array(chance.random(4 * int(ends[-1])))
    boxes = pa.ListArray.from_arrays(np.arange(ends[-1] + 1, dtype=np.int32) * 4, corners)
    return pa.ListArray.from_arrays(ends, boxes)


def _drawn(pool: pa.Array, rows: int, chance: np.random.Generator) -> pa.Array:
    return pool.take(pa.array(chance.integers(0, len(pool), rows)))


def _joined(*columns: pa.Array, by: str) -> pa.Array:
    return pc.binary_join_element_wise(*columns, by)
