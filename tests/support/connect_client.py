"""What a client of Spark Connect sees: `python connect_client.py FOLDER`, with SPARK_REMOTE

A process of its own, since Spark Connect and a classic session do not go together in one. The folder has
`metadata` and `shards`; what happened is written there, to `seen.json`.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from laptop import laptop
from rich.console import Console

from recap_spark.errors import RecapError
from recap_spark.lake.frames import frame_of
from recap_spark.lake.lake import Lake, Transaction
from recap_spark.machine.doctor.doctor import examine_machine
from recap_spark.machine.session import start
from recap_spark.pipeline import named, run_all, run_stage
from recap_spark.progress import Progress
from recap_spark.report.queries import answered
from recap_spark.settings.schema import Settings
from recap_spark.stages.caption.calibrate import rank_templates
from recap_spark.stages.export.subset import write_subset
from recap_spark.stages.fetch.probe import probe_urls
from recap_spark.tables import ALL, CAPTIONS, IMAGES, REJECTS, SAMPLES

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
PROGRESS = Progress(Console(quiet=True))
UNDEFINED = "SELECT uid FROM a_table_that_nobody_made"


def settings_of(folder: Path, **changes: Any) -> Settings:
    given = {
        "lake.root": str(folder / "lake"),
        "session.metastore": None,
        "ingest.source": str(folder / "metadata"),
        "import_images.source": str(folder / "shards"),
        "fetch.limits.reachable_private_networks": ["127.0.0.0/8"],
        "fetch.limits.ports": None,
        "fetch.limits.attempts": 1,
        "fetch.work.units": 1,
        "fetch.retry.tasks": 1,
        "import_images.tasks_per_commit": 1,
        "tracking.uri": None,
        "fetch.probe.tasks": None,
        "export.units": 1,
        "export.tasks_per_unit": 1,
        "export.view.captioner": "of another cluster",
    }
    return laptop(**given | changes)


def refused(work: Callable[..., Any], *given: Any, **named: Any) -> str:
    """The error that the work raises on purpose."""
    try:
        return f"none: {work(*given, **named)}"
    except RecapError as error:
        return f"{type(error).__name__}: {error}"


def asked(lake: Lake, query: str, *, shows: bool = True) -> list[list[Any]]:
    with answered(lake, query, command="sql", shows=shows) as rows:
        return [list(row) for row in rows.collect()]


def on_gpus(lake: Lake, folder: Path) -> dict[str, Any]:
    settings = settings_of(folder, **{"caption.device": "gpu", "score.device": "gpu"})
    stages = {
        name: refused(run_stage, named(name), lake, settings, PROGRESS) for name in ("caption", "score")
    }
    console = Console(record=True, width=1000, file=(folder / "doctor").open("w"))
    found = stages | {
        "all": refused(run_all, lake, settings, PROGRESS),
        "calibrate": refused(rank_templates, lake, settings),
        "made": [table.name for table in ALL if lake.holds(table)],
        "is fit": examine_machine(settings, console),
    }
    return found | {"doctor": console.export_text()}


def caption(lake: Lake) -> None:
    """Captions, as a cluster with GPUs would have left them."""
    lake.create(CAPTIONS)
    values = dict.fromkeys(CAPTIONS.schema.names)
    values |= {"captioner": "of another cluster", "status": "ok", "caption": "a recaption"}
    rows = [tuple((values | {"uid": row["uid"]}).values()) for row in lake.read(SAMPLES).collect()]
    frame = frame_of(lake.spark, rows, CAPTIONS.schema)
    lake.append(CAPTIONS, frame, transaction=Transaction("another cluster", 0))


def path(lake: Lake, settings: Settings, folder: Path) -> dict[str, Any]:
    def ran(name: str, settings: Settings = settings) -> Any:
        return named(name).run(lake, settings, PROGRESS)

    counts = {"ingest": ran("ingest"), "import-images": ran("import-images")}
    counts["probed"] = sorted(end.status for end in probe_urls(lake, settings, rows=10).ends)
    counts |= {"fetch": ran("fetch"), "retry": ran("retry")}
    lake.compact(IMAGES)
    rows = [lake.read(table).count() for table in (SAMPLES, REJECTS, IMAGES)]
    some = settings_of(folder, **{"ingest.source": f"{folder}/metadata/{{good,times,cut}}.parquet"})
    again = {"ingest": ran("ingest", some), "import-images": ran("import-images"), "fetch": ran("fetch")}
    grew = [lake.read(table).count() for table in (SAMPLES, REJECTS, IMAGES)] != rows
    caption(lake)
    counts["mix"] = run_stage(named("mix"), lake, settings, PROGRESS)  # with what is around each stage
    counts["export"] = ran("export")
    return {"counts": counts, "again": again, "grew": grew}


def queries(lake: Lake, folder: Path) -> dict[str, Any]:
    bound = "EXECUTE IMMEDIATE 'SELECT :said AS said' USING \"it's\" AS said"
    with answered(lake, "SELECT uid FROM samples", command="write-subset", shows=False) as rows:
        written = write_subset(rows, str(folder / "subset.npy"))
    return {
        "subset": written,
        "rejects": asked(lake, "SELECT source_file, source_row, reason, raw FROM rejects"),
        "samples": asked(lake, "SELECT uid, source_file FROM samples"),
        "images": asked(lake, "SELECT uid, status, octet_length(bytes), attempts FROM images"),
        "drawn": asked(lake, "SELECT DISTINCT caption FROM mixed_captions(0.0, 7, 3); "),
        "viewed": asked(lake, "SELECT count(*) FROM recap_datacomp -- all of it")[0][0],
        "shown": len(asked(lake, "DESCRIBE HISTORY samples")),
        "undefined": refused(asked, lake, UNDEFINED),
        "bound": [row["said"] for row in lake.spark.sql(bound).collect()],
    }


def statements(lake: Lake, folder: Path) -> dict[str, str]:
    given = json.loads((folder / "statements.json").read_text())
    return {statement: refused(asked, lake, statement) for statement in given}


def main(folder: Path) -> None:
    settings = settings_of(folder)
    lake = Lake(start(settings.session, settings.lake), settings.lake)
    seen = {"gpus": on_gpus(lake, folder)} | path(lake, settings, folder) | queries(lake, folder)
    seen |= {
        "statements": statements(lake, folder),
        "left": asked(lake, "SELECT count(*) FROM samples")[0][0],
    }
    (folder / "seen.json").write_text(json.dumps(seen, default=str))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
