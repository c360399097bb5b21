"""safetensors files → what they hold, and the tensors one at a time"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from recap_spark.errors import WeightsError

INDEX = "model.safetensors.index.json"

_MOST_SHOWN = 8  # of hundreds, where a configuration is that of another size
COMPUTED = (".rotary_emb.inv_freq", ".embeddings.position_ids")
"""Buffers that older libraries stored beside the weights; today's compute them from the configuration."""

_LENGTH_BYTES = 8  # safetensors' format: the header's length, little-endian, then the header as JSON
_LONGEST_HEADER = 100_000_000  # bytes, as the safetensors library allows


@dataclass(frozen=True)
class Stored:
    """One tensor where it lies in its file."""

    file: Path
    name: str
    dtype: str  # safetensors' word for it: F32, F16, BF16, …
    shape: tuple[int, ...]
    start: int  # bytes from the beginning of the file
    end: int


def tensors_in(folder: Path, *, whole: str | None = None) -> dict[str, Stored]:
    """Every tensor of a folder's safetensors by name; no tensor is read.

    Where there is an index, its files and no others. `whole` names the file that goes before the index where
    it exists, and without which there must be one: transformers' from_pretrained reads so, with
    `model.safetensors`. Else every safetensors file, whatever its name. Raises WeightsError where a file is
    missing or cut off, a name is there twice, or the index and the files name different tensors.
    """
    index = folder / INDEX
    is_indexed = index.is_file() and not (whole and (folder / whole).is_file())
    placed: dict[str, str] | None = json.loads(index.read_text())["weight_map"] if is_indexed else None
    name = whole or "*.safetensors"
    files = sorted({folder / file for file in placed.values()} if placed else folder.glob(name))
    if not files:
        found = sorted(path.name for path in folder.iterdir())
        raise WeightsError(f"{folder}: want {name}, found {found}")
    tensors: dict[str, Stored] = {}
    for stored in (stored for file in files for stored in _header(file)):
        if stored.name in tensors:
            both = f"{tensors[stored.name].file.name} and {stored.file.name}"
            raise WeightsError(f"{folder}: want {stored.name} once, found it in {both}")
        tensors[stored.name] = stored
    if placed is not None and placed.keys() != tensors.keys():
        odd = ", ".join(sorted(placed.keys() ^ tensors.keys()))
        raise WeightsError(f"{index}: want the tensors of its files, found a difference in {odd}")
    return tensors


def check_fit(
    parameters: Mapping[str, tuple[int, ...]], placed: Mapping[str, Stored], *, unused: Iterable[Stored] = ()
) -> None:
    """Raise WeightsError naming each tensor with no place, each parameter with no tensor, each wrong shape.

    `parameters` are a model's by name with their shapes, `placed` what is to fill them, `unused` what a
    layout has no name for.
    """
    wrong = [f"{stored.name}: no parameter takes it" for stored in unused]
    wrong += [f"{placed[name].name}: no parameter {name}" for name in placed.keys() - parameters.keys()]
    wrong += [f"{name}: no tensor fills it" for name in parameters.keys() - placed.keys()]
    wrong += [
        f"{placed[name].name}: want shape {parameters[name]}, found {placed[name].shape}"
        for name in parameters.keys() & placed.keys()
        if placed[name].shape != parameters[name]
    ]
    if wrong:
        shown, more = "; ".join(sorted(wrong)[:_MOST_SHOWN]), len(wrong) - _MOST_SHOWN
        and_more = f"; and {more} more" if more > 0 else ""
        raise WeightsError(f"the checkpoint does not fit its configuration: {shown}{and_more}")


def read_tensors(tensors: Iterable[Stored]) -> Iterator[tuple[Stored, Tensor]]:
    """The tensors on the CPU, one in memory at a time, file by file in the order they lie in.

    Read, not mapped: of a mapped file every page that was looked at counts as this process's memory.
    """
    in_order = sorted(tensors, key=lambda stored: (stored.file, stored.start))
    for file, held in groupby(in_order, key=lambda stored: stored.file):
        with safe_open(file, framework="pt", backend="pread") as opened:
            for stored in held:
                yield stored, opened.get_tensor(stored.name)


def header_bytes(tensors: Iterable[tuple[str, Stored]]) -> bytes:
    """The beginning of a safetensors file that holds these tensors, under these names, one after the
    other.
    """
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, stored in tensors:
        size = stored.end - stored.start
        entries[name] = {
            "dtype": stored.dtype,
            "shape": stored.shape,
            "data_offsets": (place, place + size),
        }
        place += size
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of eight, or readers have to copy them
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def _header(file: Path) -> list[Stored]:
    if not file.is_file():
        raise WeightsError(f"{file}: want a safetensors file, found none")
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(_LENGTH_BYTES), "little")
        begin = _LENGTH_BYTES + length
        if length > _LONGEST_HEADER or begin > size:
            raise WeightsError(f"{file}: want a safetensors header, found {size} bytes without one")
        try:
            entries = json.loads(opened.read(length))
        except ValueError as error:
            raise WeightsError(f"{file}: want a safetensors header, found no JSON") from error
    entries.pop("__metadata__", None)
    stored = [
        Stored(
            file, name, entry["dtype"], tuple(entry["shape"]), *(begin + at for at in entry["data_offsets"])
        )
        for name, entry in entries.items()
    ]
    wanted = max((tensor.end for tensor in stored), default=begin)
    if wanted != size:
        raise WeightsError(f"{file}: want {wanted} bytes, found {size}")
    return stored
