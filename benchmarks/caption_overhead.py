"""The caption stage in Spark, against the same engine in a bare Python loop of as many processes

python benchmarks/caption_overhead.py [--images 12000] [--repeats 3]

Neither side is timed while it starts. A caption run over a few other images comes before Spark's, so that its
Python workers hold the model; the bare processes load theirs and caption one batch before the first turn.
Spark's time is the whole stage: the new lake's tables, finding what is to do, units, Delta commits and the
last accounting.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import md5
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow as pa
from pyspark.sql import functions as F
from reporting import Series, print_claim, print_machine, print_table
from rich.console import Console

from recap_spark.lake.lake import Lake, Transaction
from recap_spark.machine.session import start
from recap_spark.miniature.render import render_bytes
from recap_spark.miniature.world import WEB, draw_scene
from recap_spark.progress import Progress
from recap_spark.settings.loading import load
from recap_spark.settings.schema import LakeSettings, Settings
from recap_spark.stages.caption import caption
from recap_spark.statuses import FetchStatus
from recap_spark.tables import CAPTIONS, IMAGES
from recap_spark.workers.captioning.captioner import CaptionerSpec, prepare_image
from recap_spark.workers.captioning.captions import stream_captions
from recap_spark.workers.partition import stream_partition
from recap_spark.workers.rows import Row

TARGET = 0.85
_CONF = Path(__file__).parents[1] / "conf"
_PROCESSES = 2  # laptop.yml has as many units in flight, of a task each
_WARM_UP_IMAGES = 256
_BATCH_ROWS = 128  # of Spark's Arrow batches, by conf/base.yml
_AGAIN, _DONE, _OVER = "again", "done", "over"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print_machine()
    settings = load(_CONF / "base.yml", _CONF / "laptop.yml")
    images = _pictures(count=arguments.images)
    spark_side = Series("Spark, stage and commits", len(images), "images")
    bare_side = Series("bare Python loop", len(images), "images")
    with (
        tempfile.TemporaryDirectory(prefix="recap-spark-") as scratch,
        _bare_processes(images, spec=CaptionerSpec(settings.caption)) as bare,
        _lakes(Path(scratch), settings) as lakes,
    ):
        for repeat in range(arguments.repeats):
            lake = lakes.filled(f"run_{repeat}", images)
            bare_side.measure(bare.caption_all)
            # Spark gives up Python workers, and the models they hold, after a minute without work.
            _caption(lakes.filled(f"warm_up_{repeat}", images[:_WARM_UP_IMAGES]), settings)
            spark_side.measure(lambda lake=lake: _caption(lake, settings))
            if lake.read(CAPTIONS).count() != len(images):
                raise SystemExit("want a caption row for every image, found another number of them")
    print_table((spark_side, bare_side))
    print_claim("caption_overhead", ratio=spark_side.per_s / bare_side.per_s, target=TARGET)


def _pictures(*, count: int) -> list[Row]:
    """Rows of `uid, bytes`: pictures of the miniature's web."""
    scenes = (draw_scene(number) for number in WEB[:count])
    return [
        {
            "uid": md5(str(scene.number).encode(), usedforsecurity=False).hexdigest(),
            "bytes": render_bytes(scene),
        }
        for scene in scenes
    ]


@dataclass(frozen=True)
class _Bare:
    """Processes that hold the model and their share of the images, and caption it each time they are told."""

    ends: Sequence[Connection]

    def caption_all(self) -> None:
        for end in self.ends:
            end.send(_AGAIN)
        for end in self.ends:
            end.recv()


@contextmanager
def _bare_processes(images: Sequence[Row], *, spec: CaptionerSpec) -> Iterator[_Bare]:
    # Spawned, as Spark's workers are no copies of this process either.
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(_PROCESSES)]
    processes = [
        context.Process(target=_caption_share, args=(spec, images[place::_PROCESSES], theirs), daemon=True)
        for place, (_, theirs) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    for ours, theirs in pipes:
        theirs.close()  # so that a process that dies is an end of file here, and no wait for ever
        ours.recv()
    try:
        yield _Bare([ours for ours, _ in pipes])
        for ours, _ in pipes:
            ours.send(_OVER)
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.terminate()


def _caption_share(spec: CaptionerSpec, images: Sequence[Row], turn: Connection) -> None:
    batches = pa.Table.from_pylist(list(images)).to_batches(max_chunksize=_BATCH_ROWS)
    _caption_all(batches[:1], spec)
    turn.send(_DONE)
    while turn.recv() == _AGAIN:
        _caption_all(batches, spec)
        turn.send(_DONE)


def _caption_all(batches: Sequence[pa.RecordBatch], spec: CaptionerSpec) -> None:
    """As a task does it, and with its threads: one reads, some prepare, one computes."""
    stream = partial(stream_captions, key="bare")
    for _ in stream_partition(batches, spec=spec, device=lambda: "cpu", prepare=prepare_image, stream=stream):
        pass


@dataclass(frozen=True)
class _Lakes:
    """One session, and as many lakes as there are runs."""

    lake: Lake

    def filled(self, name: str, images: Sequence[Row]) -> Lake:
        """A new lake whose only table holds these images."""
        made = Lake(self.lake.spark, self.lake.settings.model_copy(update={"namespace": name}))
        made.create(IMAGES)
        held = made.spark.createDataFrame(images, "uid string, bytes binary").withColumns(
            {
                "status": F.lit(str(FetchStatus.OK)),
                "attempts": F.lit(1),
                "fetched_at": F.current_timestamp(),
            }
        )
        absent = [
            F.lit(None).cast(f.dataType).alias(f.name) for f in IMAGES.schema if f.name not in held.columns
        ]
        made.append(IMAGES, held.select("*", *absent), transaction=Transaction("benchmark", 1))
        return made


@contextmanager
def _lakes(scratch: Path, settings: Settings) -> Iterator[_Lakes]:
    """The laptop's session, with its lakes and its metastore in a folder of the benchmark's own."""
    own = {"metastore": str(scratch / "metastore"), "log": str(scratch / "spark.log")}
    root = LakeSettings(root=str(scratch), namespace=None)
    spark = start(settings.session.model_copy(update=own), root)
    try:
        yield _Lakes(Lake(spark, root))
    finally:
        spark.stop()


def _caption(lake: Lake, settings: Settings) -> None:
    # A console that is no terminal: progress is kept, but not drawn between the figures.
    caption.run(lake, settings, Progress(Console(file=sys.stderr, force_terminal=False)))


if __name__ == "__main__":
    main()
