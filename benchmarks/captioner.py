"""The slot engine against transformers' generate at its own best batch size, on the same model and pictures

python benchmarks/captioner.py [--images 512] [--repeats 5] [--threads 1] [--float8] [--batches 128 256]

On a GPU: LLaVA-1.5 on LLaMA-3-8B in full size, random weights, captions of drawn lengths; also against the
limit that its arithmetic and memory set. `generate` captions the first 256 pictures there. Without a GPU: the
miniature, whose captions must be equal token for token. `generate` tries its batch sizes first, on a CPU
twice each; on a CPU both then take turns, on a GPU one follows the other, since each wants all its memory.
The engine's sizes are those of conf. Pictures are decoded before; normalising them is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import captioner_full_size as full_size
import torch
from reporting import Series, print_claim, print_machine, print_table
from torch import Tensor

from recap_spark.miniature.render import render_scene
from recap_spark.miniature.world import WEB, draw_scene
from recap_spark.models.llava.engine import EngineLimits, SlotEngine
from recap_spark.models.llava.generation import Generated, generate_greedily
from recap_spark.models.llava.scheduler import Picture
from recap_spark.models.pixels import OPENAI_FILL, OPENAI_MEAN, OPENAI_STD, normalise, to_pixels
from recap_spark.settings.loading import load
from recap_spark.workers.captioning.captioner import CaptionerSpec, load_captioner

TARGET_ON_CPU, TARGET_ON_GPU = 1.5, 2.5
_CONF = Path(__file__).parents[1] / "conf"
_BATCHES = (16, 32, 64, 128, 256)
_BY_GENERATE_ON_GPU = 256  # images: it takes four times as long for each


@dataclass(frozen=True)
class Work:
    """The same for both sides."""

    model: Any
    prompt: list[int]
    stop_ids: frozenset[int]
    pixels: Sequence[Tensor]  # uint8 [3, S, S] each
    longest: Sequence[int]  # new tokens of each picture, unless it stops before

    def by_generate(self, batch: int) -> dict[int, Generated]:
        """In the pictures' order, each batch until its last caption ends."""
        said: list[Generated] = []
        for first in range(0, len(self.pixels), batch):
            some = torch.stack(list(self.pixels[first : first + batch])).to(self.model.device)
            said += generate_greedily(
                self.model,
                normalise(some, mean=OPENAI_MEAN, std=OPENAI_STD),
                self.prompt,
                max_new_tokens=max(self.longest[first : first + batch]),
                stop_ids=self.stop_ids,
            )
        return dict(enumerate(said))

    def engine(self, *, slots: int, prefill_batch: int, float8: bool) -> SlotEngine:
        return SlotEngine(
            self.model,
            self.prompt,
            stop_ids=self.stop_ids,
            mean=OPENAI_MEAN,
            std=OPENAI_STD,
            limits=EngineLimits(
                max_new_tokens=max(self.longest),
                slots=slots,
                prefill_batch=prefill_batch,
                memory_bytes=None,
                float8_linears=float8,
            ),
        )

    def by_slots(self, engine: SlotEngine) -> dict[int, Generated]:
        pictures = zip(self.pixels, self.longest, strict=True)
        return dict(engine.generate(Picture(n, one, longest) for n, (one, longest) in enumerate(pictures)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="torch's, for both sides, on a CPU")
    parser.add_argument("--batches", type=int, nargs="+", default=_BATCHES, help="generate's sizes to try")
    parser.add_argument("--float8", action="store_true", help="float8 linears as well, on a GPU")
    arguments = parser.parse_args()
    print_machine()
    if torch.cuda.is_available():
        _on_gpu(arguments)
    else:
        print(f"no GPU: the miniature on the CPU, {arguments.threads} of torch's threads for both")
        _on_cpu(arguments)


def _on_cpu(arguments: argparse.Namespace) -> None:
    settings = load(_CONF / "base.yml", _CONF / "laptop.yml").caption
    captioner = load_captioner(CaptionerSpec(settings), "cpu")
    torch.set_num_threads(arguments.threads)
    scenes = (render_scene(draw_scene(number)) for number in WEB[: arguments.images])
    pixels = [to_pixels(scene, side=captioner.side, fill=OPENAI_FILL) for scene in scenes]
    longest = [captioner.spec.captioner.max_new_tokens] * len(pixels)
    work = Work(captioner.model, captioner.prompt_ids, captioner.stop_ids, pixels, longest)
    engine = work.engine(slots=settings.slots, prefill_batch=settings.prefill_batch, float8=False)
    expected = work.by_generate(64)
    if work.by_slots(engine) != expected:
        raise SystemExit("want the same captions from both, found others: nothing to compare")
    best = _best_batch(work, arguments.batches, tries=2)
    theirs = Series(f"generate, batch {best}", len(pixels), "images")
    ours = Series(f"slots, {settings.slots}", len(pixels), "images")
    for _ in range(arguments.repeats):
        theirs.measure(lambda: work.by_generate(best))
        ours.measure(lambda: work.by_slots(engine))
    print_table((theirs, ours))
    print(f"{len(pixels)} captions equal, {_mean_tokens(expected):.1f} tokens on average")
    print_claim("captioner", ratio=ours.per_s / theirs.per_s, target=TARGET_ON_CPU)


def _on_gpu(arguments: argparse.Namespace) -> None:
    settings = load(_CONF / "base.yml", _CONF / "cluster.yml").caption
    rates = full_size.measure_rates()
    print(f"{torch.cuda.get_device_name()}: {rates}")
    model = full_size.random_model()
    pixels = full_size.random_pixels(arguments.images)
    longest = full_size.drawn_lengths(arguments.images)
    work = Work(model, full_size.PROMPT, full_size.STOP_IDS, pixels, longest)
    few = Work(model, work.prompt, work.stop_ids, pixels[:_BY_GENERATE_ON_GPU], longest[:_BY_GENERATE_ON_GPU])
    best = _best_batch(few, arguments.batches, tries=1)
    theirs = Series(f"generate, batch {best}", len(few.pixels), "images")
    _repeat(theirs, 1, lambda: few.by_generate(best))
    torch.cuda.empty_cache()
    ours = _slots(work, "slots, bfloat16", arguments.repeats, settings.slots, settings.prefill_batch)
    compared = [theirs, ours.all]
    if arguments.float8:
        float8 = _slots(
            work, "slots, float8", arguments.repeats, settings.slots, settings.prefill_batch, float8=True
        )
        compared.append(float8.all)
    print_table(compared)
    full_size.print_use(ours, rates, longest=longest, config=model.config)
    if arguments.float8:
        full_size.print_agreement()
        print_claim(
            "captioner_float8", ratio=float8.all.per_s / ours.all.per_s, target=full_size.FLOAT8_TARGET
        )
    print_claim("captioner", ratio=ours.all.per_s / theirs.per_s, target=TARGET_ON_GPU)


def _slots(
    work: Work, name: str, repeats: int, slots: int, prefill_batch: int, *, float8: bool = False
) -> full_size.Measured:
    """The engine over all pictures, and over the same with one token each: what comes before decoding."""
    engine = work.engine(slots=slots, prefill_batch=prefill_batch, float8=float8)
    whole = Series(name, len(work.pixels), "images")
    prompts = Series(f"{name}, one token", len(work.pixels), "images")
    work.by_slots(engine)  # CUDA graphs are recorded in the first run
    _repeat(whole, repeats, lambda: work.by_slots(engine))
    short = Work(work.model, work.prompt, work.stop_ids, work.pixels, [1] * len(work.pixels))
    _repeat(prompts, repeats, lambda: short.by_slots(engine))
    assert engine.slots is not None
    return full_size.Measured(whole, prompts, engine.slots.count)


def _repeat(series: Series, repeats: int, work: Callable[[], object]) -> None:
    for _ in range(repeats):
        series.measure(work)


def _best_batch(work: Work, sizes: Sequence[int], *, tries: int) -> int:
    """The batch size at which generate is fastest; one that does not fit the GPU's memory is out."""
    tried = []
    for size in sizes:
        series = Series(f"generate, batch {size}", len(work.pixels), "images")
        try:
            _repeat(series, tries, partial(work.by_generate, size))
        except torch.OutOfMemoryError:
            print(f"  generate, batch {size}: out of memory")
            torch.cuda.empty_cache()
            continue
        tried.append((min(series.seconds), size))
    return min(tried)[1]


def _mean_tokens(captions: dict[int, Generated]) -> float:
    """New tokens of a caption, its stop among them."""
    return sum(len(caption.tokens) + caption.stopped for caption in captions.values()) / len(captions)


if __name__ == "__main__":
    main()
