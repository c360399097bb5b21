"""scenes → a small DataComp: metadata/*.parquet, images/*, and the truth kept apart

Nothing here fetches or serves: urls name the fault that the miniature's HTTP server is to show.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recap_spark.errors import InputError
from recap_spark.miniature.language import alt_text, describe
from recap_spark.miniature.render import render_bytes
from recap_spark.miniature.world import WEB, Scene, draw_scene, scene_to_json

# Names, order and types as published: huggingface.co/datasets/mlfoundations/datacomp_small.
METADATA_SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("url", pa.string()),
        ("text", pa.string()),
        ("original_width", pa.int64()),
        ("original_height", pa.int64()),
        ("clip_b32_similarity_score", pa.float32()),
        ("clip_l14_similarity_score", pa.float32()),
        ("face_bboxes", pa.list_(pa.list_(pa.float64()))),
        ("sha256", pa.string()),
    ]
)
TRUTH_SCHEMA = pa.schema([(name, pa.string()) for name in ("uid", "scene", "description", "route", "fault")])

ROUTE_SHARES = {
    "missing": 0.040,  # link rot is the web's commonest fault
    "gone": 0.010,
    "forbidden": 0.010,
    "error": 0.010,
    "webpage": 0.010,
    "mislabelled": 0.010,
    "truncated": 0.008,
    "cut": 0.005,
    "oversized": 0.002,
    "drip": 0.002,  # each costs a client its whole deadline, so a demo affords few
    "redirect": 0.020,
    "loop": 0.004,
    "robots": 0.010,
    "swapped": 0.010,
}
"""Share of urls on each route of the server; all others are on `images`, where nothing is wrong."""

METADATA_FAULT_SHARES = {
    "repeated_uid": 0.005,
    "conflicting_uid": 0.005,
    "null_uid": 0.005,
    "malformed_uid": 0.005,
    "empty_url": 0.005,
    "ftp_url": 0.005,
    "endless_text": 0.001,  # DataComp's longest text has 1.01 million characters
}
"""Share of rows whose metadata itself is wrong. Shares are cut down to whole rows: few rows, no faults."""

_REDIRECTS = (1, 2, 3, 6, 9)  # clients stop following after five
_ENDLESS = 1_010_000  # characters
_LARGEST_SEED = 1_000
_ROWS_PER_SEED = 1_000_000


@dataclass(frozen=True, kw_only=True)
class _Row:
    uid: str | None
    url: str
    text: str
    scene: Scene
    sha256: str


def write_dataset(folder: Path, *, rows: int, seed: int, base_url: str) -> None:
    """Write `metadata/*.parquet`, `images/<name>` and `truth/truth.parquet`; equal arguments, equal files.

    `truth` has one row for each scene, under the uid that belongs to its url, with its route and the fault of
    its metadata (empty where there is none).
    Raises InputError when the seed or the number of rows leaves the web's range of scenes.
    """
    if not (0 <= seed < _LARGEST_SEED and 0 < rows <= _ROWS_PER_SEED):
        raise InputError(
            f"dataset: want seed < {_LARGEST_SEED} and rows <= {_ROWS_PER_SEED}, found {seed}, {rows}"
        )
    scenes = [draw_scene(WEB[seed * _ROWS_PER_SEED + row]) for row in range(rows)]
    routes = _dealt(ROUTE_SHARES, rows=rows, rest="images", chance=random.Random(f"routes/{seed}"))
    faults = _dealt(METADATA_FAULT_SHARES, rows=rows, rest="", chance=random.Random(f"faults/{seed}"))
    (folder / "images").mkdir(parents=True, exist_ok=True)
    sound = [
        _sound_row(scene, route=route, base_url=base_url.rstrip("/"), images=folder / "images")
        for scene, route in zip(scenes, routes, strict=True)
    ]
    _write_metadata(folder / "metadata", rows=_damaged(sound, faults=faults), seed=seed)
    _write_truth(folder / "truth", rows=sound, routes=routes, faults=faults)


def _dealt(shares: dict[str, float], *, rows: int, rest: str, chance: random.Random) -> list[str]:
    """One word for each row, in exactly the stated shares, shuffled."""
    words = [word for word, share in shares.items() for _ in range(int(share * rows))]
    words += [rest] * (rows - len(words))
    chance.shuffle(words)
    return words


def _sound_row(scene: Scene, *, route: str, base_url: str, images: Path) -> _Row:
    name = f"{scene.number}.{scene.encoding}"
    body = render_bytes(scene)
    (images / name).write_bytes(body)
    if route == "redirect":
        route = f"redirect/{_REDIRECTS[scene.number % len(_REDIRECTS)]}"
    url = f"{base_url}/{route}/{name}"
    return _Row(
        uid=hashlib.md5(url.encode(), usedforsecurity=False).hexdigest(),
        url=url,
        text=alt_text(scene),
        scene=scene,
        sha256=hashlib.sha256(body).hexdigest(),
    )


_DAMAGES: dict[str, Callable[[_Row, _Row], _Row]] = {
    "": lambda row, _: row,
    "repeated_uid": lambda _, other: other,
    "conflicting_uid": lambda row, other: replace(row, uid=other.uid),
    "null_uid": lambda row, _: replace(row, uid=None),
    "malformed_uid": lambda row, _: replace(row, uid=(row.uid or "").upper()[:-3] + "xyz"),
    "empty_url": lambda row, _: replace(row, url=""),
    "ftp_url": lambda row, _: replace(row, url="ftp://" + row.url.split("://")[-1]),
    "endless_text": lambda row, _: replace(row, text=f"{row.text:-<{_ENDLESS}}"),
}


def _damaged(rows: Sequence[_Row], *, faults: Sequence[str]) -> list[_Row]:
    sound = [row for row, fault in zip(rows, faults, strict=True) if not fault]
    damaged = []
    for at, (row, fault) in enumerate(zip(rows, faults, strict=True)):
        other = sound[at % len(sound)]
        damaged.append(_DAMAGES[fault](row, other))
    return damaged


def _write_metadata(folder: Path, *, rows: Sequence[_Row], seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    files = 2 + len(rows) // 50_000
    for part in range(files):
        name = hashlib.md5(f"{seed}/{part}".encode(), usedforsecurity=False).hexdigest()
        records = [_record(row) for row in rows[part::files]]
        pq.write_table(pa.Table.from_pylist(records, schema=METADATA_SCHEMA), folder / f"{name}.parquet")


def _record(row: _Row) -> dict[str, object]:
    chance = random.Random(f"scores/{row.scene.number}")
    b32 = min(0.6, max(-0.1, chance.gauss(0.21, 0.06)))
    has_face = chance.random() < 0.02  # DataComp lists boxes to be blurred; most pictures have none
    return {
        "uid": row.uid,
        "url": row.url,
        "text": row.text,
        "original_width": row.scene.width,
        "original_height": row.scene.height,
        "clip_b32_similarity_score": b32,
        "clip_l14_similarity_score": min(0.6, max(-0.1, b32 - 0.03 + chance.gauss(0.0, 0.02))),
        "face_bboxes": [[0.05, 0.05, 0.2, 0.25]] if has_face else [],
        "sha256": row.sha256,
    }


def _write_truth(folder: Path, *, rows: Sequence[_Row], routes: Sequence[str], faults: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    records = [
        {
            "uid": row.uid,
            "scene": scene_to_json(row.scene),
            "description": describe(row.scene),
            "route": route,
            "fault": fault,
        }
        for row, route, fault in zip(rows, routes, faults, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(records, schema=TRUTH_SCHEMA), folder / "truth.parquet")
