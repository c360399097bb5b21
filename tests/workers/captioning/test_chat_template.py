"""The conversation template that a driver reads is the one that workers use, wherever a folder keeps it."""

import json
import shutil
from pathlib import Path

import pytest
from laptop import captioner

from recap_spark.settings.model_source import resolve
from recap_spark.workers.captioning.checkpoint import chat_template, load_processor

FILE, LEGACY, DESCRIPTION = "chat_template.jinja", "chat_template.json", "processor_config.json"


def source_of(folder):
    return captioner(captioner__model=str(folder)).captioner


def in_a_file_of_its_own(folder, template):
    pass


def in_the_older_file(folder, template):
    (folder / FILE).unlink()
    (folder / LEGACY).write_text(json.dumps({"chat_template": template}))


def in_both_files(folder, template):
    (folder / LEGACY).write_text(json.dumps({"chat_template": template + "{# older #}"}))


def in_the_processor_s_description(folder, template):
    (folder / FILE).unlink()
    described = json.loads((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(json.dumps(described | {"chat_template": template}))


def in_the_description_and_a_file(folder, template):
    described = json.loads((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(json.dumps(described | {"chat_template": template + "{# other #}"}))


def beside_others(folder, template):
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "terse.jinja").write_text(template)


WAYS = [
    in_a_file_of_its_own,
    in_the_older_file,
    in_both_files,
    in_the_processor_s_description,
    in_the_description_and_a_file,
    beside_others,
]


@pytest.mark.parametrize("keep", WAYS, ids=lambda keep: keep.__name__)
def test_a_template_is_the_processor_s_own(tmp_path, keep):
    folder = tmp_path / "captioner"
    shutil.copytree(Path(resolve("miniature:captioner")), folder)
    keep(folder, (folder / FILE).read_text())
    assert chat_template(source_of(folder)) == load_processor(source_of(folder)).chat_template
