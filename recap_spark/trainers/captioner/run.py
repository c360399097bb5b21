"""conversations → captioner: one stage at full size, on as many processes as there are

`torchrun --nproc-per-node 8 -m recap_spark.trainers.captioner.run conf/train/captioner_stage1.yml mine.yml`
"""

from __future__ import annotations

import logging
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import AdamW, Optimizer
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from recap_spark.errors import RecapError, SettingsError
from recap_spark.models.pixels import normalise
from recap_spark.settings.captioner_run import CaptionerRun, load_run
from recap_spark.trainers.captioner.batches import Feed, Row
from recap_spark.trainers.captioner.captioner import Trains, open_parts
from recap_spark.trainers.captioner.conversations import IGNORED, collate
from recap_spark.trainers.captioner.initial_model import load_start
from recap_spark.trainers.captioner.lora import add_lora
from recap_spark.trainers.captioner.saving import save_captioner
from recap_spark.trainers.checkpoints import load_checkpoint, newest_checkpoint, save_checkpoint
from recap_spark.trainers.distributed import Place, joined, share_out
from recap_spark.trainers.run_tracking import MetricLog, check_same_run, recorded
from recap_spark.trainers.schedules import warmup_then_cosine

log = logging.getLogger(__name__)

# b batch, t tokens, k tokens before an answer's, v vocabulary, s side


def main() -> None:
    """Train what the settings files say, from the newest checkpoint on where there is one."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        train_captioner(load_run(*map(Path, sys.argv[1:])))
    except RecapError as error:
        sys.exit(f"{type(error).__name__}: {error}")


def train_captioner(run: CaptionerRun) -> list[float]:
    """Train one stage; its captioner is in `run.folder`/captioner, in Hugging Face's layout.

    Returns the loss of each step that this call made: the mean over all answer tokens of the step, on
    whatever process they were. Raises SettingsError where the batch cannot be shared out evenly, or a
    checkpoint in the folder is of another run.
    """
    with joined(run.device) as place:
        # 1. The model, and what of it trains
        _check_batch(run, place)
        model, processor = load_start(run.start, seed=run.seed)
        prepare(model, run)
        share_out(model, place, precision=getattr(torch, run.precision))
        optimiser = new_optimiser(model, run)
        # 2. The data, and where in it a killed run was
        feed = Feed(run, model=model, processor=processor, place=place)
        found = newest_checkpoint(Path(run.folder))
        done, tracked = 0, None
        if found:
            check_same_run(found[1], run, feed.fingerprint, where=found[0])
            load_checkpoint(*found, model=model, optimiser=optimiser, place=place)
            done, tracked = found[1]["step"], found[1]["tracked"]
        # 3. The loop
        with recorded(run, place, tracked) as metrics:
            steps = _Steps(run, model, optimiser, processor, place, feed, metrics)
            losses = steps.train(done)
        # 4. What came of it
        save_captioner(model, processor, run=run, place=place)
    return losses


def prepare(model: LlavaForConditionalGeneration, run: CaptionerRun) -> None:
    """Freeze what the stage does not train; the vision tower always."""
    open_parts(model, trains=Trains.PROJECTOR if run.lora else Trains(run.trains))
    if run.lora:
        add_lora(model, run.lora)
    if run.gradient_checkpointing:
        model.model.language_model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    model.model.vision_tower.eval()


def new_optimiser(model: LlavaForConditionalGeneration, run: CaptionerRun) -> AdamW:
    """AdamW over what is open, the projector at a rate of its own (LLaVA's `mm_projector_lr`)."""
    projector = {id(part) for part in model.model.multi_modal_projector.parameters()}
    opened = [part for part in model.parameters() if part.requires_grad]
    groups = [
        {"params": [part for part in opened if id(part) in projector], "peak": run.projector_rate},
        {"params": [part for part in opened if id(part) not in projector], "peak": run.peak_rate},
    ]
    groups = [group for group in groups if group["params"]]
    return AdamW(groups, lr=run.peak_rate, betas=(0.9, run.beta2), weight_decay=run.weight_decay)


@dataclass(frozen=True)
class _Steps:
    """The loop, and all it needs."""

    run: CaptionerRun
    model: LlavaForConditionalGeneration
    optimiser: Optimizer
    processor: LlavaProcessor
    place: Place
    feed: Feed
    metrics: MetricLog

    def train(self, done: int) -> list[float]:
        run, total = self.run, self.feed.steps
        share = warmup_then_cosine(steps=total, warmup_steps=math.ceil(run.warmup_share * total))
        losses: list[float] = []
        for step, rows in enumerate(self.feed.rows(done), start=done):
            started = time.monotonic()
            for group in self.optimiser.param_groups:
                group["lr"] = group["peak"] * share(step)
            loss, tokens, norm = self._one(step, rows)
            losses.append(loss)
            if (step + 1) % run.log_every == 0 or step + 1 == total:
                seconds = time.monotonic() - started
                rate = run.peak_rate * share(step)
                self.metrics(step + 1, loss=loss, rate=rate, norm=norm, answer_tokens_per_s=tokens / seconds)
            if (step + 1) % run.checkpoint_every == 0 or step + 1 == total:
                self._checkpoint(step + 1)
        return losses

    def _one(self, step: int, rows: list[list[Row]]) -> tuple[float, float, float]:
        """One step: the global mean loss, the answer tokens it is over, and the gradient's norm."""
        run, place = self.run, self.place
        # Drawn anew from the step's number: from a checkpoint on, dropout is as it would have been.
        torch.manual_seed(hash((run.seed, step, place.rank)) % 2**63)
        (tokens,) = place.summed(sum(sum(example.learned) for micro in rows for example, _ in micro))
        self.optimiser.zero_grad(set_to_none=True)
        mine = 0.0
        for micro in rows:
            summed = summed_loss(self.model, self._inputs(micro), precision=getattr(torch, run.precision))
            # FSDP divides by the processes; a mean of means would weigh short answers' tokens more.
            (summed * (place.world / max(tokens, 1.0))).backward()  # type: ignore[no-untyped-call]
            mine += summed.item()
        opened = [part for part in self.model.parameters() if part.requires_grad]
        norm = torch.nn.utils.clip_grad_norm_(opened, run.clip_norm)
        self.optimiser.step()
        (summed_all,) = place.summed(mine)
        return summed_all / max(tokens, 1.0), tokens, _number(norm)

    def _inputs(self, micro: list[Row]) -> dict[str, Tensor]:
        examples = [example for example, _ in micro]
        pictures = [pixels for _, pixels in micro if pixels is not None]
        if not pictures:
            # All processes have to use the projector in the same steps; one that does not would leave the
            # others waiting for its gradient. LLaVA sends a blank picture through, and so does this.
            blank, pixels = self.feed.blank
            examples, pictures = [*examples, blank], [pixels]
        inputs = collate(examples, pad_id=self.processor.tokenizer.pad_token_id)
        images = self.processor.image_processor
        pixels_b3ss = torch.stack(pictures).to(self.place.device)
        return {name: values.to(self.place.device) for name, values in inputs.items()} | {
            "pixel_values": normalise(pixels_b3ss, mean=tuple(images.image_mean), std=tuple(images.image_std))
        }

    def _checkpoint(self, step: int) -> None:
        save_checkpoint(
            Path(self.run.folder),
            step=step,
            model=self.model,
            optimiser=self.optimiser,
            place=self.place,
            about={
                "run": self.run.model_dump(mode="json"),
                "data": self.feed.fingerprint,
                "tracked": self.metrics.run_id,
            },
            kept=self.run.checkpoints_kept,
        )


def summed_loss(
    model: LlavaForConditionalGeneration, inputs: dict[str, Tensor], *, precision: torch.dtype
) -> Tensor:
    """Cross entropy in float32, summed over the tokens with a label: the mean takes all processes' tokens.

    Logits are made only where some row has an answer: at 128320 words those of the prompts alone would take
    gigabytes.
    """
    labels_bt = inputs["labels"]
    wanted_k = (labels_bt[:, 1:] != IGNORED).any(dim=0).nonzero().squeeze(1)
    if not len(wanted_k):
        wanted_k = torch.zeros(1, dtype=torch.long, device=labels_bt.device)  # keeps all weights in the graph
    shown = {name: values for name, values in inputs.items() if name != "labels"}
    kind = labels_bt.device.type
    with torch.autocast(kind, dtype=precision, enabled=precision != torch.float32):
        logits_bkv = model(**shown, logits_to_keep=wanted_k, use_cache=False).logits
    return cross_entropy(
        logits_bkv.flatten(0, 1).float(),
        labels_bt[:, wanted_k + 1].flatten(),
        ignore_index=IGNORED,
        reduction="sum",
    )


def _check_batch(run: CaptionerRun, place: Place) -> None:
    if run.batch_size % (place.world * run.micro_batch_size):
        raise SettingsError(
            f"{run.name}: batch_size: want a multiple of {place.world} processes × micro_batch_size "
            f"{run.micro_batch_size}, found {run.batch_size}"
        )


def _number(norm: Tensor) -> float:
    full: Any = norm
    return float((full.full_tensor() if hasattr(full, "full_tensor") else full).item())


if __name__ == "__main__":
    main()
