"""Whole Parquet files → their schemas and rows"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = "arrow_schema binary, rows bigint"


def arrow_schemas(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """A row for each file of `content`."""
    for batch in batches:
        files = [pq.ParquetFile(pa.BufferReader(content.as_buffer())) for content in batch["content"]]
        schemas = [file.schema_arrow.remove_metadata().serialize().to_pybytes() for file in files]
        rows = [file.metadata.num_rows for file in files]
        yield pa.RecordBatch.from_arrays(
            [pa.array(schemas, pa.binary()), pa.array(rows, pa.int64())], names=["arrow_schema", "rows"]
        )
