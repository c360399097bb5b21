"""Our fetch worker against img2dataset, and against what the libraries that it stands on reach alone"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fetching.bare import run_bare
from fetching.bench import Bench, Claim, note
from fetching.sides import Peer, fastest, healthy, run_ours, said
from reporting import Series, print_table

from recap_spark.settings.pictures import PictureRules
from recap_spark.statuses import FetchStatus

RESIZED: dict[str, Any] = {
    "resize_mode": "keep_ratio_largest",
    "image_size": 256,
    "encode_quality": 95,
    "encode_format": "jpg",
}
_SETTINGS = (8, 16, 32, 64, 128, 256)  # threads or connections of a process
_KEPT = {"resize_mode": "no", "skip_reencode": True}
_UNSEEN = {"resize_mode": "no", "disable_all_reencoding": True}
_PEER, _BARE, _OURS = "img2dataset", "bare libraries", "ours"

Work = Callable[[int, int], float]  # rows and a setting → seconds


def kept(bench: Bench) -> list[Claim]:
    """Pictures kept as they came."""
    unseen = f"{_PEER}, undecoded"
    series = _timed(bench, {_PEER: _KEPT, unseen: _UNSEEN}, rules=bench.rules)
    ours, theirs = series[_OURS], series[_PEER]
    return [
        ("fetch_kept", ours.per_s / theirs.per_s, 2.0),
        ("fetch_kept_undecoded", ours.per_s / series[unseen].per_s, 1.0),
    ]


def resized(bench: Bench) -> list[Claim]:
    """Pictures made smaller."""
    series = _timed(bench, {_PEER: RESIZED}, rules=replace(bench.rules, **RESIZED))
    return [("fetch_resized", series[_OURS].per_s / series[_PEER].per_s, 1.5)]


def _timed(bench: Bench, sides: dict[str, dict[str, Any]], *, rules: PictureRules) -> dict[str, Series]:
    """Every side at its own best setting, in turns; prints the table and the bound."""
    peer, rows = Peer(bench.arguments.img2dataset), bench.arguments.images
    print(peer.version())
    works = _works(bench, peer, sides, rules=rules)
    best = {name: _best(name, work, rows=max(rows // 5, 200)) for name, work in works.items()}
    series = {name: Series(name, rows, "images") for name in works}
    for _ in range(bench.arguments.repeats):
        for name, work in works.items():
            note(series[name], work(rows, best[name]))
    print_table(list(series.values()))
    bound = series[_BARE].per_s / series[_PEER].per_s
    print(f"\nbound for ours, of its libraries alone: {bound:.2f} times as fast as {_PEER}")
    print(f"ours does all the rest as well, at {series[_OURS].per_s / series[_BARE].per_s:.2f} of that")
    return series


def _works(
    bench: Bench, peer: Peer, sides: dict[str, dict[str, Any]], *, rules: PictureRules
) -> dict[str, Work]:
    web = healthy(bench.hosts, port=bench.port, sha256=bench.sha256)
    # A decoder for each of the machine's cores, as there is a task for each.
    one_decoder = replace(rules, decode_processes=1)

    def ours(count: int, connections: int) -> float:
        limits = replace(bench.limits, connections=connections)
        run = run_ours(web, rows=count, limits=limits, decode=bench.decode, rules=one_decoder)
        if run.statuses != {FetchStatus.OK: count}:
            raise SystemExit(f"could not measure: want {count} pictures, found {run.statuses}")
        return run.seconds

    def bare(count: int, connections: int) -> float:
        most = bench.decode.largest_pixels
        seconds, good = run_bare(web, rows=count, connections=connections, rules=rules, largest_pixels=most)
        if good != count:
            raise SystemExit(f"could not measure: want {count} pictures, found {good}")
        return seconds

    works: dict[str, Work] = {_OURS: ours}
    for name, options in sides.items():
        works[name] = lambda count, threads, options=options: peer.run(
            web, rows=count, options=options | {"thread_count": threads}
        )
    return works | {_BARE: bare}


def _best(name: str, work: Work, *, rows: int) -> int:
    sweep = {setting: work(rows, setting) for setting in _SETTINGS}
    print(f"  {name}, {rows} rows by threads or connections a process: {said(sweep)}", flush=True)
    return fastest(sweep)
