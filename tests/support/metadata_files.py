"""Small files of DataComp's metadata, and ingest over a folder of them"""

import hashlib
import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from recap_spark.lake.lake import Lake
from recap_spark.miniature.dataset import METADATA_SCHEMA as DATACOMP
from recap_spark.progress import Progress
from recap_spark.stages.ingest import ingest


def uid(name: str) -> str:
    return hashlib.md5(name.encode()).hexdigest()


def row(name: str, **changed) -> dict:
    """A good row of DataComp's metadata, but for what is changed."""
    good = {"uid": uid(name), "url": f"https://host.test/{name}.jpg", "text": f"a picture of {name}"}
    sizes = {"original_width": 640, "original_height": 480}
    scores = {"clip_b32_similarity_score": 0.25, "clip_l14_similarity_score": 0.2}
    return good | sizes | scores | {"face_bboxes": [], "sha256": "5" * 64} | changed


def write(path: Path, *rows: dict, schema: pa.Schema = DATACOMP) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)
    return path


def damaged(path: Path) -> None:
    """A sound footer over a page whose bytes are noise."""
    write(path, *(row(f"{path.name} {number}") for number in range(200)))
    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    encoded = bytearray(path.read_bytes())
    first = (
        column.data_page_offset if column.dictionary_page_offset is None else column.dictionary_page_offset
    )
    encoded[first : first + column.total_compressed_size] = os.urandom(column.total_compressed_size)
    path.write_bytes(encoded)


def retyped(**kinds: pa.DataType) -> pa.Schema:
    return pa.schema([(field.name, kinds.get(field.name, field.type)) for field in DATACOMP])


def run(lake: Lake, settings, source: Path, **changed) -> Counter:
    asked = settings.ingest.model_copy(update={"source": str(source), "layout": "datacomp"} | changed)
    return ingest.run(lake, settings.model_copy(update={"ingest": asked}), Progress(Console(quiet=True)))
