"""Run a model over one Spark partition: a thread reads, a pool prepares, the caller's thread computes

Knows Arrow; knows neither Spark nor torch.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from queue import Empty, Full, Queue
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from recap_spark.workers.refusals import refused_once
from recap_spark.workers.rows import Row, rows_of

M_co = TypeVar("M_co", covariant=True)
M = TypeVar("M")
A = TypeVar("A")
B = TypeVar("B")

_BATCHES_AHEAD = 2
_POLL_S = 0.1


class Spec(Protocol[M_co]):
    """A frozen description of a model: cheap to pickle on the driver, costly to load on the worker."""

    @property
    def batch_size(self) -> int: ...

    @property
    def decode_threads(self) -> int: ...

    def load(self, device: str) -> M_co: ...

    def __hash__(self) -> int: ...


@dataclass
class _Loaded:
    """The one model of this process, and for which spec and device it was loaded."""

    key: tuple[Any, str] | None = None
    model: Any = None
    lock: threading.Lock = field(default_factory=threading.Lock)


_loaded = _Loaded()


def loaded(spec: Spec[M], device: str) -> M:
    """The spec's model on the device: read once per worker process, and again when the GPU or the spec
    changes.

    Spark hands a reused worker another GPU more often than not where an executor has several, so the device
    is part of the key; the old weights go before the new ones come, since both seldom fit.
    """
    with _loaded.lock:
        if _loaded.key != (spec, device):
            _loaded.key, _loaded.model = None, None
            with refused_once(f"{spec!r} on {device.partition(':')[0]}"):
                _loaded.model = spec.load(device)
            _loaded.key = (spec, device)
        model: M = _loaded.model
        return model


def run_partition(
    batches: Iterable[pa.RecordBatch],
    *,
    spec: Spec[M],
    device: Callable[[], str],
    prepare: Callable[[M, Row], A],
    answer: Callable[[M, list[A]], pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    """Answers for every row in order, `spec.batch_size` at a time; otherwise as `stream_partition`."""

    def stream(model: M, prepared: Iterator[A]) -> Iterator[pa.RecordBatch]:
        return (answer(model, some) for some in chunks(prepared, spec.batch_size))

    return stream_partition(batches, spec=spec, device=device, prepare=prepare, stream=stream)


def stream_partition(
    batches: Iterable[pa.RecordBatch],
    *,
    spec: Spec[M],
    device: Callable[[], str],
    prepare: Callable[[M, Row], A],
    stream: Callable[[M, Iterator[A]], Iterator[pa.RecordBatch]],
) -> Iterator[pa.RecordBatch]:
    """Answers for every row, in batches as `stream` makes them. An empty partition never loads the model.

    `prepare` runs in `spec.decode_threads` threads ahead of `stream`, which draws its results in the rows'
    order, as many as it wants at a time.
    """
    rows = (row for batch in batches for row in rows_of(batch))
    first = next(rows, None)
    if first is None:
        return
    model = loaded(spec, device())
    with ThreadPoolExecutor(spec.decode_threads) as pool:
        ready = _mapped(lambda row: prepare(model, row), _chain(first, rows), pool, ahead=2 * spec.batch_size)
        prepared = ahead(ready, size=_BATCHES_AHEAD * spec.batch_size)
        try:
            yield from stream(model, prepared)
        finally:
            prepared.close()


def ahead(items: Iterable[A], *, size: int) -> Generator[A]:
    """The same items, drawn by a thread that stays at most `size` in front; its exceptions are raised
    here.
    """
    queue: Queue[tuple[bool, Any]] = Queue(size)
    stop = threading.Event()

    def offer(entry: tuple[bool, Any]) -> None:
        while not stop.is_set():
            try:
                return queue.put(entry, timeout=_POLL_S)
            except Full:
                continue

    def draw() -> None:
        try:
            for item in items:
                if stop.is_set():
                    return
                offer((True, item))
            offer((False, None))
        except BaseException as error:  # whatever it is belongs to the consumer
            offer((False, error))

    thread = threading.Thread(target=draw, daemon=True)
    thread.start()
    try:
        while True:
            is_item, value = queue.get()
            if is_item:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        stop.set()
        _drain(queue)
        thread.join()


def _drain(queue: Queue[Any]) -> None:
    while True:
        try:
            queue.get_nowait()
        except Empty:
            return


def _mapped(
    function: Callable[[A], B], items: Iterable[A], pool: ThreadPoolExecutor, *, ahead: int
) -> Iterator[B]:
    """`map` in the pool, in order, with at most `ahead` items begun and not yet taken."""
    begun: deque[Future[B]] = deque()
    for item in items:
        begun.append(pool.submit(function, item))
        if len(begun) >= ahead:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def chunks(items: Iterable[A], size: int) -> Iterator[list[A]]:
    """The same items, `size` at a time; the last list may be shorter."""
    source = iter(items)
    while chunk := list(islice(source, size)):
        yield chunk


def _chain(first: A, rest: Iterable[A]) -> Iterator[A]:
    yield first
    yield from rest
