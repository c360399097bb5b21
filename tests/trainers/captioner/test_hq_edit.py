"""HQ-Edit's Parquet becomes pictures and conversations that the trainer reads."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recap_spark.errors import InputError
from recap_spark.settings.prompt import PROMPT
from recap_spark.trainers.captioner.conversations import read_conversations
from recap_spark.trainers.captioner.hq_edit import unpack


def edit(number, **changed):
    return {
        "input": f"before {number}",
        "input_image": {"bytes": b"in %d" % number, "path": None},
        "edit": "make it so",
        "output": f"after {number}",
        "output_image": {"bytes": b"out %d" % number, "path": None},
    } | changed


def test_each_edit_gives_two_pictures_under_the_dataset_s_prompt(tmp_path):
    table = pa.Table.from_pylist([edit(0), edit(1, output=None), edit(2, input_image=None)])
    pq.write_table(table, tmp_path / "train-0.parquet")
    assert unpack(tmp_path, tmp_path / "out") == 4
    pairs = {}
    for talk in read_conversations(tmp_path / "out" / "pairs.json"):
        asked, answer = talk.turns
        assert (asked.text, asked.pictured) == (PROMPT, True)
        pairs[answer.text] = (tmp_path / "out" / "images" / talk.image).read_bytes()
    assert pairs == {"before 0": b"in 0", "after 0": b"out 0", "before 1": b"in 1", "after 2": b"out 2"}


def test_files_without_its_columns_are_an_error_that_names_them(tmp_path):
    pq.write_table(pa.Table.from_pylist([{"input": "a"}]), tmp_path / "train-0.parquet")
    with pytest.raises(InputError, match=r"'input_image', 'output', 'output_image'\] not found"):
        unpack(tmp_path, tmp_path / "out")


def test_a_folder_without_parquet_is_an_error(tmp_path):
    with pytest.raises(InputError, match="found none"):
        unpack(tmp_path, tmp_path / "out")
