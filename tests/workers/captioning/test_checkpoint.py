"""Checkpoints in the original LLaVA layout, made of a CLIP, a projector and a LLaMA, are loaded as one."""

import weakref
from dataclasses import replace
from io import BytesIO

import torch
from laptop import with_captioner
from PIL import Image
from tiny_checkpoint import PATCH, SIDE, TEMPLATE, Made, logits, some_pixels

from recap_spark.miniature.original_layout import BEGIN, END, TURN_END
from recap_spark.models.pixels import OPENAI_FILL
from recap_spark.models.tensor_files import read_tensors, tensors_in
from recap_spark.workers.captioning.captioner import describe_captioner, load_captioner, prepare_image
from recap_spark.workers.captioning.checkpoint import load_llava


@torch.inference_mode()
def logits_by_hand(made: Made, ids: list[int], image: int, pixels: torch.Tensor) -> torch.Tensor:
    """LLaVA's forward pass, of its three models: features of the layer before the last, without CLS."""
    hidden = made.clip.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
    features = made.projector(hidden[-2][:, 1:])
    begin, end = ids.index(image), len(ids) - ids[::-1].index(image)
    embed = made.llama.get_input_embeddings()
    before, after = (embed(torch.tensor([part])) for part in (ids[:begin], ids[end:]))
    return made.llama(inputs_embeds=torch.cat([before, features, after], dim=1)).logits


def test_the_original_layout_answers_as_the_models_it_is_made_of(made):
    captioner = load_captioner(made.spec, "cpu")
    ids, pixels = captioner.prompt_ids, some_pixels()
    expected = logits_by_hand(made, ids, captioner.model.config.image_token_id, pixels)
    torch.testing.assert_close(logits(captioner.model, ids, pixels), expected, rtol=0, atol=0)


def test_prompts_use_tokens_that_llama3_does_not(whole):
    captioner = load_captioner(whole.spec, "cpu")
    image, pad = captioner.model.config.image_token_id, captioner.tokenizer.pad_token_id
    assert captioner.tokenizer.convert_ids_to_tokens([image, pad]) == [
        "<|reserved_special_token_8|>",
        "<|reserved_special_token_7|>",
    ]
    assert captioner.prompt_ids.count(image) == (SIDE // PATCH) ** 2
    assert captioner.prompt_ids.count(BEGIN) == 1
    assert captioner.tokenizer.padding_side == "left"
    assert captioner.model.config.text_config.pad_token_id == pad


def test_a_caption_ends_at_both_of_llama3s_ends(whole):
    assert load_captioner(whole.spec, "cpu").stop_ids == {END, TURN_END}


def test_a_picture_is_padded_in_clips_mean_colour(whole):
    out = BytesIO()
    Image.new("RGB", (SIDE, SIDE // 4), (0, 0, 0)).save(out, "PNG")
    prepared = prepare_image(load_captioner(whole.spec, "cpu"), {"uid": "a" * 32, "bytes": out.getvalue()})
    assert tuple(prepared.pixels[:, 0, 0].tolist()) == OPENAI_FILL


def test_nothing_of_the_model_is_left_without_memory(whole):
    model, _ = load_llava(whole.spec.captioner, dtype=torch.float32, device="cpu")
    assert not [
        name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_meta
    ]


def test_one_tensor_at_a_time_is_in_memory_while_they_are_read(whole):
    read = []
    for _, tensor in read_tensors(tensors_in(whole.folder).values()):
        assert not any(earlier() for earlier in read)
        read.append(weakref.ref(tensor))
        del tensor
    assert len(read) == len(tensors_in(whole.folder))


def test_another_template_or_version_or_part_is_another_captioner(whole, tmp_path):
    row = describe_captioner(whole.spec)
    assert row["template"] == "tiny@3"
    later = with_captioner(whole.spec, template=replace(TEMPLATE, version=4))
    keys = [row["captioner"], describe_captioner(later)["captioner"]]
    with (tmp_path / "tower" / "preprocessor_config.json").open("a") as file:
        file.write("\n")
    keys.append(describe_captioner(whole.spec)["captioner"])
    assert len(set(keys)) == 3
