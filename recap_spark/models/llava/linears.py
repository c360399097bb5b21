"""Several linear layers of one input → one product, on weights that they go on sharing"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from recap_spark.errors import WeightsError
from recap_spark.models.llava.float8 import float8_linear
from recap_spark.models.llava.operations import Rows

Linear = Callable[[Rows], Tensor]


def fused(modules: Sequence[nn.Linear], *, float8: bool) -> Linear:
    """One product for several linears of the same input, which become views of its weights.

    With `float8` they are given up instead. Raises WeightsError where one of those has a bias.
    """
    if float8 and any(module.bias is not None for module in modules):
        raise WeightsError("float8 linears: want none with a bias, found one")
    weight = _joined([module.weight for module in modules])
    if float8:
        for module in modules:
            module.weight.data = weight.new_empty(0)
        return float8_linear(weight)
    biases = [module.bias for module in modules if module.bias is not None]
    return partial(linear, weight=weight, bias=_joined(biases) if biases else None)


def _joined(parameters: Sequence[Tensor]) -> Tensor:
    if len(parameters) == 1:
        return parameters[0].detach()
    whole = torch.cat([parameter.detach() for parameter in parameters])
    begin = 0
    for parameter in parameters:
        parameter.data = whole[begin : begin + parameter.shape[0]]
        begin += parameter.shape[0]
    return whole
