"""A run's state ↔ a folder of safetensors, one for each process, and a JSON that says they are complete"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from recap_spark.errors import WeightsError
from recap_spark.trainers.distributed import Place, own_part

_MOMENTS = ("exp_avg", "exp_avg_sq")
_STATE = "state.json"


def save_checkpoint(
    folder: Path,
    *,
    step: int,
    model: nn.Module,
    optimiser: Optimizer,
    place: Place,
    about: Mapping[str, Any],
    kept: int,
) -> None:
    """Write the state after `step` steps; of older checkpoints the newest `kept` - 1 stay.

    A checkpoint gets its name when it is whole: one that was cut off is none. What does not train is not
    saved: it is where the run started from. The folder has to be one that all processes see.
    """
    final = folder / f"step-{step:08d}"
    unfinished = final.with_suffix(".unfinished")
    if place.first:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    place.meet()
    save_file(_own_state(model, optimiser), unfinished / _part(place.rank, place.world))
    place.meet()
    if place.first:
        state = {"step": step, "world": place.world, **about}
        (unfinished / _STATE).write_text(json.dumps(state, indent=1))
        os.replace(unfinished, final)
        for old in _all(folder)[:-kept]:
            shutil.rmtree(old)
    place.meet()


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The last whole checkpoint and what it says about itself; None where there is none."""
    found = _all(folder)
    return (found[-1], json.loads((found[-1] / _STATE).read_text())) if found else None


def load_checkpoint(
    checkpoint: Path, state: Mapping[str, Any], *, model: nn.Module, optimiser: Optimizer, place: Place
) -> None:
    """Put weights and moments back, whatever the number of processes that saved them.

    Raises WeightsError where a file is missing, or a tensor is not of this model's shape.
    """
    paths = [checkpoint / _part(rank, state["world"]) for rank in range(state["world"])]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise WeightsError(f"{checkpoint}: want {len(paths)} parts, {', '.join(missing)} not found")
    with ExitStack() as opened, torch.no_grad():
        parts = [opened.enter_context(safe_open(path, framework="pt")) for path in paths]
        for name, weights in _trained(model).items():
            _fill(weights, parts, f"weight/{name}", place)
            moments = {moment: torch.zeros_like(weights) for moment in _MOMENTS}
            for moment, values in moments.items():
                _fill(values, parts, f"{moment}/{name}", place)
            optimiser.state[weights] = {"step": torch.tensor(float(state["step"])), **moments}


def _own_state(model: nn.Module, optimiser: Optimizer) -> dict[str, Tensor]:
    held: dict[str, Tensor] = {}
    for name, weights in _trained(model).items():
        held[f"weight/{name}"] = weights
        held |= {f"{moment}/{name}": optimiser.state[weights][moment] for moment in _MOMENTS}
    return {key: own_part(tensor.detach()).contiguous() for key, tensor in held.items()}


def _fill(tensor: Tensor, parts: list[Any], key: str, place: Place) -> None:
    saved = [part.get_tensor(key) for part in parts if key in part.keys()]  # noqa: SIM118  no mapping
    if not saved:
        raise WeightsError(f"checkpoint: want {key}, found no such tensor")
    full = torch.cat(saved)
    if full.shape != tensor.shape:
        raise WeightsError(f"checkpoint: {key}: want {list(tensor.shape)}, found {list(full.shape)}")
    # FSDP2 shares out as torch.chunk does: the last processes may get nothing.
    chunks = full.chunk(place.world)
    own_part(tensor).copy_(chunks[place.rank] if place.rank < len(chunks) else full[:0])


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weights for name, weights in model.named_parameters() if weights.requires_grad}


def _part(rank: int, world: int) -> str:
    return f"part-{rank:05d}-of-{world:05d}.safetensors"


def _all(folder: Path) -> list[Path]:
    named = (path for path in folder.glob("step-*") if re.fullmatch(r"step-\d{8}", path.name))
    return sorted(path for path in named if (path / _STATE).is_file())
