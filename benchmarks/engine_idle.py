"""How long a captioning engine of a known speed waits for its pictures: simulated, for machines without a GPU

python benchmarks/engine_idle.py [--images 3000] [--per-second 96.6] [--repeats 3]

The task is the caption stage's own (`stream_partition`: one thread reads, `caption.decode_threads` decode,
pad and resize to 336 px, one computes), but for the engine, which sleeps for as long as a GPU would take over
`prefill_batch` pictures at the given speed: by default an H200's limit (recap_spark.models.llava.cost), the
fastest card that the planner knows. The pictures are JPEGs of 512 px with the detail of photographs. What
the engine waits after its first batch, over all its time from then on, is the idle share; the rest is busy.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
from fetching.web import pictures
from reporting import print_claim, print_machine

from recap_spark.models.pixels import OPENAI_MEAN
from recap_spark.settings.loading import load
from recap_spark.settings.schema import CaptionSettings
from recap_spark.workers.captioning.captioner import Prepared, prepare_image
from recap_spark.workers.partition import chunks, stream_partition
from recap_spark.workers.pictures.pixel_decoders import PixelDecoders
from recap_spark.workers.rows import Row

TARGET = 0.95
_BATCH_ROWS = 128  # of Spark's Arrow batches, by conf/base.yml
_SIDE = 336


@dataclass(frozen=True)
class SimulatedEngine:
    """A captioner as far as its pictures are concerned, and a clock in place of its arithmetic."""

    decoders: PixelDecoders = field(hash=False, compare=False)
    batch_size: int
    decode_threads: int
    prefill_batch: int
    per_second: float
    waited_s: list[float] = field(default_factory=list, hash=False, compare=False)
    side: int = _SIDE
    mean: tuple[float, ...] = OPENAI_MEAN

    @property
    def spec(self) -> SimulatedEngine:
        return self

    def load(self, device: str) -> SimulatedEngine:
        return self

    def stream(self, _: SimulatedEngine, prepared: Iterator[Prepared]) -> Iterator[pa.RecordBatch]:
        asked = time.perf_counter()
        for some in chunks(prepared, self.prefill_batch):
            self.waited_s.append(time.perf_counter() - asked)
            time.sleep(len(some) / self.per_second)
            yield pa.RecordBatch.from_pylist([{"uid": one.uid} for one in some])
            asked = time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=3_000)
    parser.add_argument("--per-second", type=float, default=96.6)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print_machine()
    settings = load(Path(__file__).parents[1] / "conf" / "base.yml").caption
    bodies = pictures()
    rows: list[Row] = [
        {"uid": f"{number:032x}", "bytes": bodies[number % len(bodies)]} for number in range(arguments.images)
    ]
    batches = pa.Table.from_pylist(rows).to_batches(max_chunksize=_BATCH_ROWS)
    shares = [_idle_share(batches, settings, arguments.per_second) for _ in range(arguments.repeats)]
    print(f"simulated engine of {arguments.per_second:g} images/s, {settings.decode_threads} decode threads")
    print(f"idle share: median {median(shares):.3f}, {min(shares):.3f} to {max(shares):.3f}")
    print_claim("engine_busy_simulated", ratio=1 - median(shares), target=TARGET)


def _idle_share(batches: list[pa.RecordBatch], settings: CaptionSettings, per_second: float) -> float:
    engine = SimulatedEngine(
        decoders=PixelDecoders(settings.decode),
        batch_size=settings.batch_size,
        decode_threads=settings.decode_threads,
        prefill_batch=settings.prefill_batch,
        per_second=per_second,
    )
    started, cpu = time.perf_counter(), time.process_time()
    prepare: Any = prepare_image  # asks no more of a captioner than the simulated one has
    answered = stream_partition(
        batches, spec=engine, device=lambda: "simulated", prepare=prepare, stream=engine.stream
    )
    done = sum(batch.num_rows for batch in answered)
    wall, cores = time.perf_counter() - started, time.process_time() - cpu
    before = os.times()
    engine.decoders.close()  # a child's CPU is counted when it has ended
    after = os.times()
    cores += sum(after[2:4]) - sum(before[2:4])
    if done != sum(batch.num_rows for batch in batches):
        raise SystemExit(f"want a row for every picture, found {done}")
    first, *later = engine.waited_s
    print(
        f"  {done / wall:.1f} images/s, {1e3 * cores / done:.1f} ms of CPU a picture, "
        f"{cores / wall:.2f} cores, first wait {first:.2f} s (load {os.getloadavg()[0]:.1f})",
        flush=True,
    )
    return sum(later) / (wall - first)


if __name__ == "__main__":
    main()
