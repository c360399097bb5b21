"""Our fetch worker against img2dataset, against a web that is partly dead, and against its own memory

python benchmarks/fetch.py --img2dataset PYTHON [--images 10000] [--repeats 5] [--only kept,resized]

img2dataset (1.47.0, `pip install img2dataset`) lives in a virtual environment of its own, whose Python is
named by --img2dataset or IMG2DATASET_PYTHON. The servers are processes of their own on the same cores, and
--hosts loopback addresses are the hosts. Neither side writes, both verify sha256, neither's start is timed.
Both are tuned in the same run, on a fifth of the rows: img2dataset by its threads, ours by its connections.
A task has one decoder, since there are as many tasks as cores (conf/base.yml's two are for larger machines).
A third side has only our libraries' client, hash and decoding (fetching/bare.py), which is a bound for ours.
Every claim's ratio is made so that more is better.

kept      pictures kept as they came, proven to decode. img2dataset: skip_reencode, resize_mode no. Its
          disable_all_reencoding, which looks at no picture, is timed beside it.
resized   pictures made 256 px at their longer side, as JPEGs of quality 95.
faults    30 % of the hosts slow, dead or dripping: 1.3 times the healthy ones' time alone, plus one deadline,
          over the time that all take.
memory    peak memory of one worker with its decoders: with few urls over with many; and 1 GiB over that with
          bodies made to fill memory.
profile   only where --only names it, and no claim: a kept picture's CPU time by process and part, in Spark
          and to Delta.

Where a side does not do all of its work, or a setting is missing, nothing is claimed and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

from fetching.against import RESIZED, kept, resized
from fetching.bench import Bench, Claim, note
from fetching.profile import print_profile
from fetching.sides import Web, healthy
from fetching.web import hosts, pictures, serving
from reporting import Series, print_claim, print_machine, print_table

from recap_spark.settings.fetch_limits import FetchLimits
from recap_spark.settings.loading import load

_CONF = Path(__file__).parents[1] / "conf"
_FAULTS = ("slow", "refused", "drip", "silent")  # in turn over the hosts that have one
_TRAPS = ("endless", "bomb", "pixels", "drip", "silent", "picture")
_GIB = 1 << 30


def main() -> None:
    arguments = _arguments()
    print_machine()
    kinds = _kinds(arguments.hosts)
    listening = [host for host, kind in zip(hosts(arguments.hosts), kinds, strict=True) if kind != "refused"]
    bodies = pictures()
    with (
        tempfile.TemporaryDirectory(prefix="fetch-benchmark-") as executor,
        serving(listening, bodies, processes=arguments.servers) as port,
    ):
        os.environ["SPARK_LOCAL_DIRS"] = executor  # as Spark does for its workers, who share hosts there
        digests = tuple(sha256(body).hexdigest() for body in bodies)
        base = load(_CONF / "base.yml").fetch
        limits = _limits(base.limits, arguments.deadline)
        bench = Bench(arguments, port, listening, digests, limits, base.decode, base.picture)
        claims: list[Claim] = []
        for name, part in _PARTS.items():
            if name in arguments.only:
                print(f"\n{name}", flush=True)
                claims += part(bench)
    print()
    for name, ratio, target in claims:
        print_claim(name, ratio=ratio, target=target)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SystemExit(f"could not measure: {message}")


def _arguments() -> argparse.Namespace:
    parser = _Parser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--img2dataset", type=Path, default=os.environ.get("IMG2DATASET_PYTHON"))
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--few", type=int, default=1_000, help="urls of the smaller memory run")
    parser.add_argument("--many", type=int, default=50_000, help="urls of the larger memory run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--hosts", type=int, default=400)
    parser.add_argument("--servers", type=int, default=2, help="processes that serve")
    parser.add_argument("--deadline", type=float, default=10.0, help="seconds a url, where hosts are dead")
    claimed = [name for name in _PARTS if name != "profile"]
    parser.add_argument("--only", type=lambda text: text.split(","), default=claimed)
    arguments = parser.parse_args()
    if unknown := set(arguments.only) - _PARTS.keys():
        parser.error(f"--only: want some of {', '.join(_PARTS)}, found {', '.join(sorted(unknown))}")
    if not {"kept", "resized"}.isdisjoint(arguments.only) and arguments.img2dataset is None:
        parser.error("want --img2dataset PYTHON or IMG2DATASET_PYTHON, found neither: see --help")
    return arguments


def _limits(base: FetchLimits, deadline_s: float) -> FetchLimits:
    """conf/base.yml's, let onto loopback."""
    return replace(base, reachable_private_networks=("127.0.0.0/8",), ports=None, deadline_s=deadline_s)


def _kinds(count: int) -> tuple[str, ...]:
    """Three hosts of ten are bad, of every kind in turn."""
    bad = [place for place in range(count) if place % 10 in (2, 5, 8)]
    return tuple(
        _FAULTS[bad.index(place) % len(_FAULTS)] if place in bad else "picture" for place in range(count)
    )


def faults(bench: Bench) -> list[Claim]:
    """A web that is partly dead, and the rest of it alone."""
    kinds = _kinds(bench.arguments.hosts)
    every = hosts(bench.arguments.hosts)
    whole = Web(bench.port, tuple(every), kinds, bench.sha256)
    sound = [host for host, kind in zip(every, kinds, strict=True) if kind == "picture"]
    alone, rows = healthy(sound, port=bench.port, sha256=bench.sha256), bench.arguments.images
    part = rows * len(sound) // len(every)
    series = (Series("healthy 70 % alone", part, "urls"), Series("all", rows, "urls"))
    for _ in range(bench.arguments.repeats):
        note(series[0], bench.run(alone, rows=part).seconds)
        run = bench.run(whole, rows=rows)
        note(series[1], run.seconds)
    print(f"  ends: {dict(run.statuses)}")
    print_table(series)
    allowed_s = 1.3 * series[0].median_s + bench.limits.deadline_s
    print(f"allowed: 1.3 x {series[0].median_s:.2f} + {bench.limits.deadline_s:g} = {allowed_s:.2f} s")
    return [("fetch_faults", allowed_s / series[1].median_s, 1.0)]


def memory(bench: Bench) -> list[Claim]:
    """Peak memory of one worker with its decoders."""
    web = healthy(bench.hosts, port=bench.port, sha256=bench.sha256)
    traps = bench.web(tuple(_TRAPS[place % len(_TRAPS)] for place in range(len(bench.hosts))))
    peaks = {}
    for name, one, rows in (
        (f"{bench.arguments.few} urls", web, bench.arguments.few),
        (f"{bench.arguments.many} urls", web, bench.arguments.many),
        (f"{bench.arguments.few} traps", traps, bench.arguments.few),
    ):
        run = bench.run(one, rows=rows, processes=1, watch_memory=True)
        peaks[name] = run.peak_bytes
        print(f"  {name}: peak {run.peak_bytes / 2**20:.0f} MiB in {run.seconds:.1f} s, {dict(run.statuses)}")
    few, many, trapped = peaks.values()
    return [("fetch_memory_flat", few / many, 1 / 1.2), ("fetch_memory_traps", _GIB / trapped, 1.0)]


def profile(bench: Bench) -> list[Claim]:
    """Where a kept picture's CPU time goes."""
    web, rows = healthy(bench.hosts, port=bench.port, sha256=bench.sha256), bench.arguments.images
    resized_rules = replace(bench.rules, **RESIZED)
    print_profile(web, pictures(), rows=rows, limits=bench.limits, resized=resized_rules)
    return []


_PARTS: dict[str, Callable[[Bench], list[Claim]]] = {
    "kept": kept,
    "resized": resized,
    "faults": faults,
    "memory": memory,
    "profile": profile,
}

if __name__ == "__main__":
    main()
