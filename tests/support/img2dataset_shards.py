"""Shards as img2dataset writes them"""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from repository import CONF

from recap_spark.settings.loading import load
from recap_spark.workers.shards.shard_listing import list_shards
from recap_spark.workers.shards.shard_pictures import Reading, describe_shards

UIDS = [f"{number:032x}" for number in range(10)]


def picture(number: int = 0, kind: str = "JPEG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8 + number, 6), (20 * number, 99, 7)).save(out, kind)
    return out.getvalue()


def member(
    archive: tarfile.TarFile,
    name: str,
    body: bytes,
    *,
    kind: bytes = tarfile.REGTYPE,
    records: dict[str, str] | None = None,
) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.pax_headers = len(body), kind, records or {}
    archive.addfile(info, io.BytesIO(body))


def write_tar(path: Path, *samples: tuple[str, bytes, dict | bytes | None]) -> Path:
    """Key, picture and metadata of each, in the order that img2dataset writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for key, body, said in samples:
            member(archive, f"{key}.jpg", body)
            member(archive, f"{key}.txt", b"words")
            if said is not None:
                member(archive, f"{key}.json", said if isinstance(said, bytes) else json.dumps(said).encode())
    return path


def write_parquet(path: Path, *rows: dict, **columns: pa.DataType) -> Path:
    schema = pa.schema(
        columns or {"key": pa.string(), "uid": pa.string(), "sha256": pa.string(), "status": pa.string()}
    )
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)
    return path


def reading(folder: Path, *, cpu_s: float = 20.0, rules: dict | None = None, **limits) -> Reading:
    """By the settings of conf/base.yml, but for what is changed of them."""
    fetch = load(CONF / "base.yml").fetch
    return Reading(
        source=str(folder),
        limits=replace(fetch.limits, **limits),
        decode=replace(fetch.decode, cpu_s=cpu_s),
        rules=replace(fetch.picture, **(rules or {})),
    )


def described(folder: Path) -> list[dict]:
    rows = [{"file": one.path, "side": one.side} for one in list_shards(str(folder))]
    batch = pa.RecordBatch.from_pylist(rows, schema=pa.schema({"file": pa.string(), "side": pa.string()}))
    return [row for some in describe_shards([batch], reading=reading(folder)) for row in some.to_pylist()]
