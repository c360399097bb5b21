"""HQ-Edit's Parquet → pictures in a folder, and LLaVA's JSON of them

`python -m recap_spark.trainers.captioner.hq_edit PARQUET-FOLDER OUT` makes OUT/pairs.json and OUT/images for
stage 3.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from recap_spark.errors import InputError
from recap_spark.settings.prompt import PROMPT

log = logging.getLogger(__name__)

# UCSC-VLAA/HQ-Edit: each edit has two described pictures, before and after it (arXiv 2404.09990).
_SIDES = (("input_image", "input"), ("output_image", "output"))


def unpack(source: Path, out: Path) -> int:
    """Write both pictures of every edit, each under the dataset's prompt. Returns the pairs written.

    A picture without a description is left out. The JSON comes last, so a folder with one is whole.
    Raises InputError where the files are not HQ-Edit's.
    """
    files = sorted(source.rglob("*.parquet"))
    if not files:
        raise InputError(f"{source}: want HQ-Edit's *.parquet, found none")
    (out / "images").mkdir(parents=True, exist_ok=True)
    records = []
    for number, path in enumerate(files):
        for name, picture, text in _pairs(path):
            image = f"{number:04d}-{name}"
            (out / "images" / image).write_bytes(picture)
            asked = {"from": "human", "value": f"<image>\n{PROMPT}"}
            records.append({"image": image, "conversations": [asked, {"from": "gpt", "value": text}]})
    unfinished = out / "pairs.json.unfinished"
    unfinished.write_text(json.dumps(records))
    os.replace(unfinished, out / "pairs.json")
    return len(records)


def _pairs(path: Path) -> Iterator[tuple[str, bytes, str]]:
    columns = [column for side in _SIDES for column in side]
    with pq.ParquetFile(path) as file:
        if missing := set(columns) - set(file.schema_arrow.names):
            raise InputError(f"{path}: want columns {columns}, {sorted(missing)} not found")
        row = 0
        for batch in file.iter_batches(batch_size=64, columns=columns):
            for edit in batch.to_pylist():
                for image, text in _SIDES:
                    picture: Any = edit[image]
                    if picture and picture["bytes"] and edit[text]:
                        yield f"{row:08d}-{text}", picture["bytes"], edit[text].strip()
                row += 1


def main() -> None:
    """Unpack what the arguments name."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    source, out = map(Path, sys.argv[1:])
    log.info("%d pairs", unpack(source, out))


if __name__ == "__main__":
    main()
