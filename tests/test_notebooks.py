"""Notebooks are committed as they are opened first: without what they showed somebody."""

import json

import pytest
from repository import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs_and_defines_nothing(path):
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 1
    assert not [cell for cell in code if cell["outputs"] or cell["execution_count"] is not None]
    source = "".join(line for cell in code for line in cell["source"])
    assert "def " not in source  # what wants a function belongs to the package


def test_the_notebooks_are_numbered_from_one():
    assert [int(path.name[0]) for path in NOTEBOOKS] == list(range(1, len(NOTEBOOKS) + 1))
