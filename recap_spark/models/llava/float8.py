"""bfloat16 linear layers → float8 products: scales for each row of the activations and of the weights

The recipe of FP8_DYNAMIC checkpoints (llm-compressor): weights scaled once, activations as they come. Vision
tower, projector and the last layer to the vocabulary are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from recap_spark.errors import PlatformError
from recap_spark.models.llava.operations import Rows, Scaled

LARGEST = torch.finfo(torch.float8_e4m3fn).max  # 448
_SMALLEST = 1e-12  # of a scale: a row of zeros has one too

# m rows, n outputs, k inputs


def require_float8(device: torch.device, dtype: torch.dtype) -> None:
    """Raise PlatformError unless float8 products run in hardware here (Ada, Hopper, Blackwell)."""
    if device.type != "cuda":
        raise PlatformError(f"float8 linears: want a GPU of compute capability 8.9 or more, found {device}")
    capability = torch.cuda.get_device_capability(device)
    if capability < (8, 9):
        found = f"{torch.cuda.get_device_name(device)} with {capability[0]}.{capability[1]}"
        raise PlatformError(f"float8 linears: want compute capability 8.9 or more, found {found}")
    if dtype != torch.bfloat16:
        raise PlatformError(f"float8 linears: want dtype bfloat16 around them, found {dtype}")


def to_float8(rows: Tensor) -> tuple[Tensor, Tensor]:
    """[m, k] → float8 [m, k] and float32 [m, 1], whose product they are: each row spans float8's range."""
    largest = torch.linalg.vector_norm(rows, float("inf"), dim=-1, keepdim=True)
    scale = (largest.float() / LARGEST).clamp_(min=_SMALLEST)
    return (rows * scale.reciprocal().to(rows.dtype)).to(torch.float8_e4m3fn), scale


def float8_linear(weight: Tensor) -> Callable[[Rows], Tensor]:
    """A product with bfloat16 [n, k], kept as float8: rows of k, scaled already or scaled here → [m, n]."""
    # Products by rows want the second operand by columns: [k, n], n its slow index.
    weight_8, scale_n1 = to_float8(weight)
    weight_kn, scale_1n = weight_8.t(), scale_n1.t().contiguous()

    def linear(rows: Rows) -> Tensor:
        values_mk, scale_m1 = rows if isinstance(rows, Scaled) else to_float8(rows)
        return torch._scaled_mm(
            values_mk,
            weight_kn,
            scale_a=scale_m1,
            scale_b=scale_1n,
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
        )

    return linear
