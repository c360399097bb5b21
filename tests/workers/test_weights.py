"""Weights of gigabytes are read once for all stages of a command."""

from __future__ import annotations

import os
from pathlib import Path

from recap_spark.workers.weights import folder_sha256, weights_sha256

SIZE = 8 << 20


def bytes_read() -> int:
    """By this process, since it began."""
    (line,) = (line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar"))
    return int(line.split()[1])


def test_weights_are_read_again_only_once_they_have_changed(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"a" * SIZE)
    before = bytes_read()
    first = weights_sha256(str(tmp_path))
    assert bytes_read() - before >= SIZE
    before = bytes_read()
    assert weights_sha256(str(tmp_path)) == first
    assert bytes_read() - before < SIZE / 8

    kept = weights.stat()
    weights.write_bytes(b"b" * SIZE)
    os.utime(weights, ns=(kept.st_atime_ns, kept.st_mtime_ns))  # as some copies keep it
    assert weights_sha256(str(tmp_path)) != first


def test_a_file_that_comes_or_goes_makes_another_hash(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"a")
    first = folder_sha256(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert folder_sha256(str(tmp_path)) != first
    (tmp_path / "config.json").unlink()
    assert folder_sha256(str(tmp_path)) == first
