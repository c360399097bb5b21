"""saved weights + held-out scenes → the share of true statements, and how well CLIP tells pictures apart

`python -m recap_spark.miniature.quality [--scenes N]`
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoProcessor, AutoTokenizer, CLIPModel, LlavaForConditionalGeneration

from recap_spark.miniature.language import alt_text, describe
from recap_spark.miniature.models import SIDE
from recap_spark.miniature.render import render_scene
from recap_spark.miniature.statements import ATTRIBUTES, ground_is_true, truth
from recap_spark.miniature.world import HELD_OUT, Scene, draw_scene
from recap_spark.models.pixels import OPENAI_FILL, OPENAI_MEAN, OPENAI_STD, normalise, to_pixels
from recap_spark.settings.prompt import PROMPT

WEIGHTS = Path(__file__).parent / "weights"
BATCH = 64
RETRIEVAL_PAIRS = 100  # held-out pairs that each text and each picture is sought among


@dataclass(frozen=True, kw_only=True)
class CaptionQuality:
    """Counts over the captions of some scenes."""

    scenes: int
    stated: Counter[str]  # claims about objects, by attribute
    true: Counter[str]
    mentioned: int
    present: int
    grounds_true: int  # captions whose background is right in colour and texture
    words: int

    @property
    def share_true(self) -> float:
        """Of all claims about objects; 0 for captions that claim nothing."""
        return self.true.total() / max(1, self.stated.total())

    @property
    def share_mentioned(self) -> float:
        """Of all objects present."""
        return self.mentioned / max(1, self.present)


@dataclass(frozen=True, kw_only=True)
class ClipQuality:
    """Shares between 0 and 1."""

    text_to_image: float  # R@1 within RETRIEVAL_PAIRS
    image_to_text: float
    prefers_description: float  # pictures nearer to their true description than to their alt-text


def main() -> None:
    """Print the measures of the weights that lie in the package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=256)
    wanted = parser.parse_args().scenes
    scenes = [draw_scene(number) for number in HELD_OUT[:wanted]]
    captions = caption_scenes(scenes, folder=WEIGHTS / "captioner")
    clip_scenes = [draw_scene(number) for number in HELD_OUT[: 5 * RETRIEVAL_PAIRS]]
    for line in report(
        measure_captions(captions, scenes=scenes), measure_clip(clip_scenes, folder=WEIGHTS / "clip")
    ):
        print(line)


def report(captions: CaptionQuality, clip: ClipQuality) -> list[str]:
    """Lines of text, one measure each."""
    lines = [
        f"held-out scenes               {captions.scenes}",
        f"words per caption             {captions.words / captions.scenes:.1f}",
        f"statements true               {captions.share_true:.1%} of {captions.stated.total()}",
    ]
    for name in ATTRIBUTES:
        share = captions.true[name] / max(1, captions.stated[name])
        lines.append(f"  {name:<27} {share:.1%} of {captions.stated[name]}")
    return [
        *lines,
        f"objects mentioned             {captions.share_mentioned:.1%} of {captions.present}",
        f"backgrounds right             {captions.grounds_true / captions.scenes:.1%}",
        f"CLIP R@1 in {RETRIEVAL_PAIRS}, text→image   {clip.text_to_image:.1%}",
        f"CLIP R@1 in {RETRIEVAL_PAIRS}, image→text   {clip.image_to_text:.1%}",
        f"CLIP prefers description      {clip.prefers_description:.1%}",
    ]


def caption_scenes(scenes: Sequence[Scene], *, folder: Path) -> list[str]:
    """Greedy captions by the saved captioner, loaded as anyone would load it."""
    model = LlavaForConditionalGeneration.from_pretrained(folder, local_files_only=True).eval()
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": PROMPT}]}]
    # The same prompt for each picture: every row has equal length, so a batch needs no padding.
    patches = processor.image_token * model.config.image_seq_length
    text = processor.apply_chat_template(turn, add_generation_prompt=True).replace(
        processor.image_token, patches
    )
    prompt = processor.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    captions: list[str] = []
    for start in range(0, len(scenes), BATCH):
        pixels = _pixels(scenes[start : start + BATCH])
        ids = prompt.expand(len(pixels), -1)
        with torch.inference_mode():
            answers = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels)
        captions += processor.batch_decode(answers[:, ids.shape[1] :], skip_special_tokens=True)
    return captions


def measure_captions(captions: Sequence[str], *, scenes: Sequence[Scene]) -> CaptionQuality:
    """Parse the captions and hold them against the scenes."""
    judged = [truth(text, scene) for text, scene in zip(captions, scenes, strict=True)]
    return CaptionQuality(
        scenes=len(scenes),
        stated=sum((each.stated for each in judged), Counter()),
        true=sum((each.true for each in judged), Counter()),
        mentioned=sum(each.mentioned for each in judged),
        present=sum(each.present for each in judged),
        grounds_true=sum(ground_is_true(text, scene) for text, scene in zip(captions, scenes, strict=True)),
        words=sum(len(text.split()) for text in captions),
    )


def measure_clip(scenes: Sequence[Scene], *, folder: Path) -> ClipQuality:
    """Retrieval among each hundred of the scenes, and the choice between description and alt-text."""
    model = CLIPModel.from_pretrained(folder, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def embedded(texts: list[str]) -> Tensor:
        words = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        return normalize(model.get_text_features(**words).pooler_output, dim=-1)

    with torch.inference_mode():
        image_nd = normalize(model.get_image_features(pixel_values=_pixels(scenes)).pooler_output, dim=-1)
        true_nd = embedded([describe(scene) for scene in scenes])
        noisy_nd = embedded([alt_text(scene) for scene in scenes])
    hundreds = [slice(at, at + RETRIEVAL_PAIRS) for at in range(0, len(scenes), RETRIEVAL_PAIRS)]
    preferred_n = (image_nd * true_nd).sum(-1) > (image_nd * noisy_nd).sum(-1)
    return ClipQuality(
        text_to_image=sum(_first_hits(true_nd[each] @ image_nd[each].T) for each in hundreds) / len(scenes),
        image_to_text=sum(_first_hits(image_nd[each] @ true_nd[each].T) for each in hundreds) / len(scenes),
        prefers_description=preferred_n.float().mean().item(),
    )


def _first_hits(similarity_nn: Tensor) -> int:
    own_n = torch.arange(len(similarity_nn))
    return int((similarity_nn.argmax(dim=1) == own_n).sum())


def _pixels(scenes: Sequence[Scene]) -> Tensor:
    pixels = [to_pixels(render_scene(scene), side=SIDE, fill=OPENAI_FILL) for scene in scenes]
    return normalise(torch.stack(pixels), mean=OPENAI_MEAN, std=OPENAI_STD)


if __name__ == "__main__":
    main()
