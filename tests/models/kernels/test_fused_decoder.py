"""A decoder's passes by this project's kernels, which Triton's interpreter runs here, and by plain torch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import decoder, llava, tower

from recap_spark.models.llava.decoder import Decoder, read_beginning, read_decoder, read_prompts
from recap_spark.models.llava.operations import fused_operations
from recap_spark.models.llava.slots import fill, new_slots, step

PROMPT, NEW, HEADS, GROUPS = 7, 5, 6, 2


@pytest.fixture(scope="module")
def plain() -> Decoder:
    text = decoder(
        50,
        hidden_size=96,
        intermediate_size=72,
        num_hidden_layers=3,
        num_attention_heads=HEADS,
        num_key_value_heads=GROUPS,
        initializer_range=0.2,
    )
    model = llava(tower(), text).eval()
    return read_decoder(model, positions=PROMPT + NEW, float8=False)


@pytest.fixture(scope="module")
def fused(plain: Decoder) -> Decoder:
    operations = fused_operations(epsilon=1e-6, heads=HEADS, groups=GROUPS, scaled=False)
    return replace(plain, operations=operations, fused=True)


def said(decoder: Decoder, embeds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits behind two prompts, and the tokens of the steps that follow."""
    with torch.inference_mode():
        beginning = read_beginning(decoder, torch.tensor([], dtype=torch.long))
        logits, filled = read_prompts(decoder, embeds, beginning)
        slots = new_slots(decoder, count=3, positions=PROMPT + NEW, beginning=beginning, prompt_tokens=PROMPT)
        stops = torch.tensor([-1])
        rows, limits = torch.tensor([2, 0]), torch.tensor([NEW, NEW])
        fill(slots, rows, filled, tokens=logits.argmax(dim=-1), limits=limits, stops=stops)
        for count in range(1, NEW):
            step(decoder, slots, stops, rows=3, reach=PROMPT + count)
    return logits, slots.said_sm[rows]


def test_the_kernels_say_of_prompts_and_of_tokens_what_plain_torch_says(plain, fused):
    embeds = torch.randn(2, PROMPT, 96, generator=torch.Generator().manual_seed(1))
    (logits, tokens), (same_logits, same_tokens) = said(plain, embeds), said(fused, embeds)
    torch.testing.assert_close(same_logits, logits, rtol=1e-4, atol=1e-4)
    assert torch.equal(same_tokens, tokens)
    assert len(set(tokens.flatten().tolist())) > 2
