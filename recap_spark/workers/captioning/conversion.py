"""A captioner in the original LLaVA layout → the same one in the published layout, for every engine"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from recap_spark.errors import InputError
from recap_spark.models.llava.layout import FROM_ORIGINAL, place_tensors, published_name, unfilled
from recap_spark.models.tensor_files import INDEX, Stored, header_bytes, tensors_in
from recap_spark.settings.model_source import folder_of
from recap_spark.settings.schema import CaptionerSettings
from recap_spark.workers.captioning.checkpoint import answers, configured, layout_of, open_original

_CHUNK = 16 << 20  # bytes


def convert_captioner(captioner: CaptionerSettings, target: Path) -> None:
    """Write weights, configuration, tokenizer, processor and generation settings to `target`, a new folder.

    The tensors are copied byte by byte in their stored types, so nothing is rounded and only one chunk is in
    memory. The folder gets its name once it is complete on the disk. Raises InputError where the target
    exists already or the captioner is in the published layout.
    """
    if target.exists():
        raise InputError(f"{target}: want a folder that is not there yet, found one")
    if layout_of(folder_of(captioner, files="texts")) == "llava":
        raise InputError(f"{captioner.model}: in the published layout already, nothing to convert")
    original = open_original(captioner, files="all")
    model = unfilled(configured(original))
    tensors = tensors_in(original.folder)
    placed = place_tensors(model, tensors, FROM_ORIGINAL, tower=lambda: tensors_in(original.tower))
    with _named_when_done(target) as folder:
        _write_tensors(placed, folder)
        model.config.architectures = ["LlavaForConditionalGeneration"]
        model.config.dtype = original.settings.get("torch_dtype")
        model.config.save_pretrained(folder)
        answers(original).save_pretrained(folder)
        original.processor.save_pretrained(folder)


def _write_tensors(placed: Mapping[str, Stored], folder: Path) -> None:
    """One file for every file of the source, and the index of them."""
    tensors = sorted(
        ((published_name(name), stored) for name, stored in placed.items()),
        key=lambda pair: (pair[1].file, pair[1].start),
    )
    shards = [list(shard) for _, shard in groupby(tensors, key=lambda pair: pair[1].file)]
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write_shard(shard, folder / file)
        weight_map |= dict.fromkeys((name for name, _ in shard), file)
    size = sum(stored.end - stored.start for _, stored in tensors)
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / INDEX).write_text(json.dumps(index, indent=2))


def _write_shard(shard: list[tuple[str, Stored]], path: Path) -> None:
    with shard[0][1].file.open("rb") as source, path.open("wb") as target:
        target.write(header_bytes(shard))
        for _, stored in shard:
            source.seek(stored.start)
            left = stored.end - stored.start
            while left:
                chunk = source.read(min(left, _CHUNK))
                if not chunk:
                    raise InputError(f"{stored.file}: cut off while it was read, within {stored.name}")
                target.write(chunk)
                left -= len(chunk)


@contextmanager
def _named_when_done(target: Path) -> Iterator[Path]:
    """A temporary folder beside the target: renamed to the target when the block succeeds, removed when it
    fails.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield folder
        folder.chmod(0o755)  # mkdtemp's own is for one user alone; executors may be another
        for path in (*folder.rglob("*"), folder):
            _to_disk(path)
        folder.rename(target)
        _to_disk(target.parent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _to_disk(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
