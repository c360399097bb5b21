"""Two pretrained parts become a LLaVA, and low-rank updates become weights."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from recap_spark.errors import WeightsError
from recap_spark.runs import LoraSettings, PartsSettings
from recap_spark.trainers.assembly import IMAGE, PAD, load_start
from recap_spark.trainers.conversations import Conversation, Turn, tokenise
from recap_spark.trainers.lora import add_lora, merged

HEADERS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]


def save_parts(folder, *, specials):
    """A tower and a decoder with LLaMA-3's special tokens, each in its own folder."""
    torch.manual_seed(0)
    tower = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    CLIPVisionModel(tower).save_pretrained(folder / "tower")
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(
        folder / "tower"
    )
    bytes_of_text = {letter: number for number, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    words = Tokenizer(models.BPE(vocab=bytes_of_text, merges=[]))
    words.pre_tokenizer, words.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    words.add_special_tokens(specials)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token=specials[0], eos_token=specials[1])
    tokenizer.save_pretrained(folder / "decoder")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "decoder")
    return PartsSettings(
        vision_tower=str(folder / "tower"),
        vision_revision=None,
        decoder=str(folder / "decoder"),
        decoder_revision=None,
    )


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return save_parts(tmp_path_factory.mktemp("parts"), specials=HEADERS)


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


def test_a_decoder_of_another_family_is_refused(tmp_path):
    other = save_parts(tmp_path, specials=["<s>", "</s>"])
    with pytest.raises(WeightsError, match=r"want LLaMA-3's <\|eot_id\|>"):
        load_start(other, seed=0)


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
