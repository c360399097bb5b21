"""A lake of six samples with known answers: `python sql_lake.py ROOT`

A process of its own: an embedded metastore takes one at a time, and the server is to have it.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from repository import CONF
from rich.console import Console

from recap_spark.lake.frames import frame_of
from recap_spark.lake.lake import Lake, Transaction
from recap_spark.machine.session import start
from recap_spark.progress import Progress
from recap_spark.settings.loading import load
from recap_spark.settings.schema import Settings
from recap_spark.stages import mix
from recap_spark.stages.importing.imports_table import IMPORTS
from recap_spark.tables import ALL, CAPTIONERS, CAPTIONS, IMAGES, REJECTS, SAMPLES, SCORES, Table

CAPTIONER = "small-000000000001"
UIDS = [f"{number:032x}" for number in range(6)]
TEXTS = ["a cat", "a dog on a lawn", None, "blue bicycle for sale, hardly used, in Utrecht", "sky", "sea"]
CAPTIONS_OF = [
    "A grey cat on a red chair.",
    "A dog lies on a lawn.",
    "A field.",
    "A blue bicycle.",
    "A field.",
]


def changes(root: Path) -> list[str]:
    """What the commands over this lake are given, too."""
    return [f"lake.root={root}", f"export.view.captioner={CAPTIONER}"]


def settings_of(root: Path) -> Settings:
    return load(CONF / "base.yml", CONF / "laptop.yml", changes=changes(root))


def rows() -> list[tuple[Table, list[dict[str, Any]]]]:
    then = datetime(2026, 1, 1, tzinfo=UTC)
    image = {"status": "ok", "attempts": 1, "fetched_at": then, "format": "jpeg", "bytes": b"x"}
    image |= {"width": 100, "height": 80, "sha256_matches": True}
    caption = {"captioner": CAPTIONER, "status": "ok", "finish_reason": "stop", "tokens": 7}
    score = {"scorer": "clip", "status": "ok"}
    images = [{"sha256": f"{number:064x}", "width": 100 * (number + 1)} for number in range(4)]
    images[3] |= {"sha256": images[2]["sha256"], "format": "png", "sha256_matches": None}
    gone = {"status": "gone", "format": None, "bytes": None, "width": None, "height": None}
    return [
        (
            SAMPLES,
            [
                {
                    "uid": uid,
                    "url": f"http://{'good' if number < 4 else 'gone'}.test:80/{number}.jpg",
                    "org_caption": TEXTS[number],
                    "source_row": number,
                    "source_file": "one.parquet",
                    "original_width": 150 + 50 * number,
                    "clip_l14_similarity_score": 0.25 + 0.02 * number,
                }
                for number, uid in enumerate(UIDS)
            ],
        ),
        (
            REJECTS,
            [
                {"source_file": "one.parquet", "source_row": 6, "reason": "null_uid", "raw": "{}"},
                {"source_file": "one.parquet", "source_row": 7, "reason": "null_uid", "raw": "{}"},
                {"source_file": "two.parquet", "reason": "unreadable_file", "raw": "short"},
            ],
        ),
        (
            IMAGES,
            [image | {"uid": uid} | more for uid, more in zip(UIDS, [*images, gone, gone], strict=True)],
        ),
        (
            CAPTIONERS,
            [{"captioner": CAPTIONER, "fingerprint": "f" * 64, "model": "small", "dtype": "float32"}],
        ),
        (
            CAPTIONS,
            [
                caption
                | {"uid": uid, "caption": text, "finish_reason": "length" if uid == UIDS[0] else "stop"}
                for uid, text in zip(UIDS, CAPTIONS_OF, strict=False)
            ],
        ),
        (
            SCORES,
            [
                *(score | {"uid": uid, "captioner": "original", "cosine": 0.25} for uid in UIDS[:2]),
                score | {"uid": UIDS[0], "captioner": CAPTIONER, "cosine": 0.5, "pair_preference": 0.75},
                score | {"uid": UIDS[1], "captioner": CAPTIONER, "cosine": 0.125, "pair_preference": 0.25},
            ],
        ),
    ]


def main(root: Path) -> None:
    settings = settings_of(root)
    lake = Lake(start(settings.session, settings.lake), settings.lake)
    lake.create(*ALL, IMPORTS)
    for table, held in rows():
        values = [tuple(row.get(name) for name in table.schema.names) for row in held]
        lake.append(table, frame_of(lake.spark, values, table.schema), transaction=Transaction("test", 1))
    mix.run(lake, settings, Progress(Console(quiet=True)))
    lake.spark.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
