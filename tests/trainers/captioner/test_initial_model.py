"""Two pretrained parts become a LLaVA, and low-rank updates become weights."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    CLIPVisionModel,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
)

from recap_spark.errors import SettingsError, WeightsError
from recap_spark.settings.captioner_run import LoraSettings
from recap_spark.trainers.captioner.conversations import Conversation, Turn, tokenise
from recap_spark.trainers.captioner.initial_model import IMAGE, PAD, load_start
from recap_spark.trainers.captioner.lora import add_lora, merged


def test_both_parts_keep_their_weights_and_the_vocabulary_grows_by_two_to_a_multiple_of_64(parts):
    model, processor = load_start(parts, seed=0)
    tower = CLIPVisionModel.from_pretrained(parts.vision_tower).state_dict()
    decoder = LlamaForCausalLM.from_pretrained(parts.decoder)
    joined = model.model.vision_tower.state_dict()
    assert all(torch.equal(joined[name], weights) for name, weights in tower.items())
    known = decoder.config.vocab_size
    assert torch.equal(model.lm_head.weight[:known], decoder.lm_head.weight)
    assert len(processor.tokenizer) == known + 2
    assert model.lm_head.out_features == model.config.text_config.vocab_size == 320
    ids = processor.tokenizer.convert_tokens_to_ids([IMAGE, PAD])
    assert model.config.image_token_id == ids[0] >= known
    assert model.generation_config.pad_token_id == ids[1] >= known
    ends = processor.tokenizer.convert_tokens_to_ids(["<|end_of_text|>", "<|eot_id|>"])
    assert sorted(model.generation_config.eos_token_id) == sorted(ends)


def test_equal_seeds_give_equal_projectors(parts):
    def projector(seed):
        return load_start(parts, seed=seed)[0].model.multi_modal_projector.linear_1.weight

    assert torch.equal(projector(1), projector(1))
    assert not torch.equal(projector(1), projector(2))


def test_what_was_joined_computes_and_saves_and_loads(parts, tmp_path):
    model, processor = load_start(parts, seed=0)
    talk = Conversation("a.png", (Turn("user", "What?", True), Turn("assistant", "A cat.", False)))
    example = tokenise(talk, processor=processor, patches=4, template="chat", longest=1000)
    answer = [token for token, is_learned in zip(example.ids, example.learned, strict=True) if is_learned]
    assert processor.tokenizer.decode(answer) == "A cat.<|eot_id|>"
    assert example.ids.count(processor.tokenizer.bos_token_id) == 1
    inputs = {"input_ids": torch.tensor([example.ids]), "pixel_values": torch.rand(1, 3, 16, 16)}
    model.eval().save_pretrained(tmp_path)
    again = LlavaForConditionalGeneration.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(model(**inputs).logits, again(**inputs).logits)


def test_a_decoder_of_another_family_is_refused(tmp_path, save_parts):
    other = save_parts(tmp_path, ["<s>", "</s>"])
    with pytest.raises(WeightsError, match=r"want LLaMA-3's <\|eot_id\|>"):
        load_start(other, seed=0)


def test_a_hub_name_without_a_commit_is_refused(parts):
    with pytest.raises(SettingsError, match="openai/clip: want revision to be a commit"):
        load_start(parts.model_copy(update={"vision_tower": "openai/clip"}), seed=0)
    with pytest.raises(SettingsError, match="owner/captioner: want revision to be a commit"):
        load_start("owner/captioner", seed=0)


def test_merged_updates_compute_what_they_did_beside_the_weights(parts):
    model, _ = load_start(parts, seed=0)
    plain = load_start(parts, seed=0)[0].eval()
    settings = LoraSettings(rank=2, alpha=6, dropout=0.0)
    add_lora(model, settings)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.normal_()
    ids = torch.arange(20)[None]
    with_updates = model.eval()(input_ids=ids).logits
    assert not torch.allclose(plain(input_ids=ids).logits, with_updates)
    plain.load_state_dict(merged(model.state_dict().items(), settings))
    torch.testing.assert_close(plain(input_ids=ids).logits, with_updates, rtol=1e-4, atol=1e-4)
