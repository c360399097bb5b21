"""The first settings file of one's own, with what everybody has to say"""

from __future__ import annotations

from pathlib import Path

from recap_spark.errors import InputError

_TEXT = """\
# Settings of your own: recap-spark doctor --conf THIS_FILE, then ingest, fetch, caption, score, mix, export.
# conf/base.yml has every other key with its reason; one value for one run: --set fetch.limits.deadline_s=5

based_on: [base, laptop]   # on a GPU cluster: [base, cluster]

lake:
  root: lake               # folder or object-store URL (s3://bucket/recap); holds the tables
  namespace: recap         # schema, or catalog.schema (Unity Catalog, Glue); null: folders under root

ingest:
  source: metadata         # folder, glob or URL of DataComp's metadata in Parquet

fetch:
  limits:
    contact_url: https://example.org/recap-spark   # a page of yours, where a site's owner finds out who asks

tracking:
  uri: null                # an MLflow server, https://mlflow.example.org; null: SQLite under lake.root
"""


def write_first_file(path: Path) -> None:
    """Raises InputError where there is such a file already, or no folder for it."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_TEXT)
    except FileExistsError as error:
        raise InputError(f"init: want a new file, found {path} there already") from error
    except OSError as error:
        raise InputError(f"init: {path}: want a folder to write in: {error.strerror}") from error
