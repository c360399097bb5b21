"""What would fail each scoring task, or score with weights drawn at random, is said before, in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from laptop import scorer
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from recap_spark.errors import WeightsError
from recap_spark.miniature.models import TEXT_END
from recap_spark.settings.model_source import resolve
from recap_spark.workers.scoring.precheck import check_partition

ROW = pa.RecordBatch.from_pydict({"id": [0]})


def checked(model: str) -> list[pa.RecordBatch]:
    return list(check_partition([ROW], spec=scorer(scorer__model=model), device=lambda: "cpu"))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return Path(shutil.copytree(resolve("miniature:clip"), tmp_path / "clip"))


def tensors(change: Callable) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        held = load_file(folder / "model.safetensors")
        change(held)
        save_file(held, folder / "model.safetensors", metadata={"format": "pt"})

    return harm


def values(file: str, change: Callable) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        said = json.loads((folder / file).read_text())
        change(said)
        (folder / file).write_text(json.dumps(said))

    return harm


def without(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def cut(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-9])


def with_a_token_too_many(folder: Path) -> None:
    """No text of plain words has it."""
    rows = json.loads((folder / "config.json").read_text())["text_config"]["vocab_size"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<|{number}|>" for number in range(len(tokenizer), rows + 1)])
    tokenizer.save_pretrained(folder)


def as_a_list(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def of_before(folder: Path) -> None:
    """As OpenAI's were published: the end of a text has the largest id, and the configuration says 2."""
    values("config.json", lambda said: said["text_config"].update(eos_token_id=2))(folder)
    values("tokenizer.json", end_last)(folder)


def end_last(said: dict) -> None:
    vocabulary = said["model"]["vocab"]
    last = max(vocabulary, key=vocabulary.__getitem__)
    vocabulary[TEXT_END], vocabulary[last] = vocabulary[last], vocabulary[TEXT_END]
    (added,) = (one for one in said["added_tokens"] if one["content"] == TEXT_END)
    added["id"] = vocabulary[TEXT_END]
    said["post_processor"]["special_tokens"][TEXT_END]["ids"] = [vocabulary[TEXT_END]]


def unpadded(folder: Path) -> None:
    values("tokenizer_config.json", lambda said: said.pop("pad_token"))(folder)
    values("tokenizer.json", lambda said: said.update(padding=None))(folder)


def test_a_sound_scorer_passes_and_a_buffer_of_older_libraries_does_no_harm(clip):
    assert checked("miniature:clip") == [ROW]
    tensors(lambda held: held.update({"text_model.embeddings.position_ids": held["logit_scale"].clone()}))(
        clip
    )
    assert checked(str(clip)) == [ROW]


def test_a_configuration_of_before_passes_where_texts_end_in_their_largest_token(clip):
    of_before(clip)
    assert checked(str(clip)) == [ROW]


def test_files_that_are_not_read_beside_the_weights_do_no_harm(clip):
    save_file({"visual.proj": torch.zeros(2)}, clip / "open_clip_model.safetensors")
    (clip / "model.safetensors.index.json").write_text('{"weight_map": {"a": "of-another-time.safetensors"}}')
    assert checked(str(clip)) == [ROW]
    assert scorer(scorer__model=str(clip)).load("cpu").model.config.model_type == "clip"


def test_weights_of_another_name_are_not_taken_for_the_model_s(clip):
    (clip / "model.safetensors").rename(clip / "open_clip_model.safetensors")
    with pytest.raises(WeightsError, match=r"want model\.safetensors, found \["):
        checked(str(clip))


def test_a_model_on_the_hub_is_left_to_the_worker_that_brings_it():
    assert checked("owner/name") == [ROW]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (tensors(lambda held: held.pop("logit_scale")), "logit_scale: no tensor fills it"),
        (
            tensors(lambda held: held.update(other=held["logit_scale"].clone())),
            "other: no parameter other",
        ),
        (
            values("config.json", lambda said: said["text_config"].update(vocab_size=9)),
            r"token_embedding\.weight: want shape \(9, ",
        ),
        (values("config.json", lambda said: said.update(model_type="llava")), "want model_type clip, found"),
        (cut, "model.safetensors: want .* bytes, found"),
        (without("config.json"), r"want config\.json, found \["),
        (as_a_list, r"config\.json: want a JSON object, found a list"),
        (
            values("config.json", lambda said: said["text_config"].update(hidden_size="wide")),
            "want a CLIP in Hugging Face's layout, found StrictDataclassFieldValidationError: ",
        ),
        (
            values("config.json", lambda said: said["text_config"].update(num_attention_heads=5)),
            "want a CLIP in Hugging Face's layout, found StrictDataclassClassValidationError: ",
        ),
        (without("processor_config.json"), "want a CLIP in Hugging Face's layout, found OSError"),
        (unpadded, "want a tokenizer that pads, found ValueError: "),
        (with_a_token_too_many, r"want token ids below \d+, found \d+"),
        (
            values("config.json", lambda said: said["text_config"].update(eos_token_id=2)),
            "want texts to end in their largest token, for eos_token_id 2, found end ",
        ),
        (
            values("config.json", lambda said: said["text_config"].update(eos_token_id=700)),
            "want texts to end in token 700, found none in ",
        ),
        (  # of tokenizers, in Rust: a bare Exception
            values("tokenizer.json", lambda said: said["model"]["merges"].append([])),
            "want a CLIP in Hugging Face's layout, found Exception: ",
        ),
        (
            lambda folder: (folder / "processor_config.json").write_text("[" * 100_000),
            "want a CLIP in Hugging Face's layout, found RecursionError: ",
        ),
        (
            values("config.json", lambda said: said["vision_config"].update(num_hidden_layers=1 << 31)),
            "want num_hidden_layers of at most 1000, found 2147483648",
        ),
    ],
    ids=[
        *("lacking", "odd", "shape", "kind", "cut", "no config", "list", "type", "heads", "no images"),
        *("no pad", "a token too many", "end is not the largest", "no end"),
        *("merges", "deep", "layers without end"),
    ],
)
def test_what_fits_no_clip_is_named_though_no_weight_is_read(clip, harm, said):
    harm(clip)
    with pytest.raises(WeightsError, match=said) as raised:
        checked(str(clip))
    assert "\n" not in str(raised.value)
