"""Each kernel computes what plain torch does. Without a GPU Triton's interpreter runs the same source."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu

from recap_spark.models.kernels.rotation import rotate_and_store
from recap_spark.models.kernels.rows import add_norm, gated_silu, quick_gelu_, scaled_rows
from recap_spark.models.kernels.slot_attention import attend_slots
from recap_spark.models.llava.operations import plain_operations

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TYPES = [torch.bfloat16, torch.float16] if torch.cuda.is_available() else [torch.float32]
EPSILON = 1e-5
# Of a few units in the last place of each type.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def random(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    numbers = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=numbers).to(DEVICE, dtype)


def assert_near(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    tolerance = TOLERANCE[theirs.dtype]
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def assert_scaled(values: torch.Tensor, scale: torch.Tensor | None, theirs: torch.Tensor) -> None:
    """Each row's largest number is float8's largest, and every number is the nearest that float8 has."""
    assert scale is not None
    torch.testing.assert_close(scale * 448, theirs.float().abs().amax(dim=1, keepdim=True), rtol=1e-2, atol=0)
    ours, exact = values.float(), theirs.float() / scale
    near = (ours - exact).abs() <= exact.abs() / 15 + 0.01
    if DEVICE == "cpu":  # Triton 3.9's interpreter halves what rounds up to a power of two
        near |= (2 * ours - exact).abs() <= exact.abs() / 15 + 0.01
    assert near.all()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("rows", "width"), [(3, 192), (2, 4096), (1, 7)])
def test_a_sum_and_its_norm_are_torchs(rows, width, dtype):
    hidden, delta, weight = (random(n, width, dtype=dtype) for n in (rows, rows, 1))
    total, normed, scale = add_norm(hidden, delta.clone(), weight[0], EPSILON, scaled=False)
    assert scale is None
    assert_near(total, hidden + delta)
    assert_near(normed, rms_norm(hidden + delta, (width,), weight[0], EPSILON))


@pytest.mark.parametrize("dtype", TYPES)
def test_a_norm_alone_leaves_its_rows_as_they_are(dtype):
    whole = random(4, 3, 64, dtype=dtype)
    last = whole[:, -1]  # rows with gaps between them
    total, normed, _ = add_norm(last, None, random(64, dtype=dtype), EPSILON, scaled=False)
    assert total is last
    assert_near(normed, rms_norm(last, (64,), random(64, dtype=dtype), EPSILON))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("rows", "width"), [(3, 512), (2, 3000), (1, 5)])
def test_a_gate_is_torchs(rows, width, dtype):
    gate_up = random(rows, 2 * width, dtype=dtype)
    gated, _ = gated_silu(gate_up, scaled=False)
    gate, up = gate_up.chunk(2, dim=1)
    assert_near(gated, silu(gate) * up)


@pytest.mark.parametrize("dtype", TYPES)
def test_clips_activation_is_x_times_the_sigmoid_of_a_multiple(dtype):
    inner = random(3, 900, dtype=dtype)
    theirs = inner * torch.sigmoid(1.702 * inner)
    assert_near(quick_gelu_(inner), theirs)


@pytest.mark.parametrize("dtype", TYPES)
def test_rows_in_float8_are_the_rows_but_for_its_precision(dtype):
    hidden, delta, weight = random(5, 192, dtype=dtype), random(5, 192, dtype=dtype), random(192, dtype=dtype)
    normed = rms_norm(hidden + delta, (192,), weight, EPSILON)
    assert_scaled(*add_norm(hidden, delta, weight, EPSILON, scaled=True)[1:], theirs=normed)
    gate, up = random(5, 600, dtype=dtype).chunk(2, dim=1)
    assert_scaled(*gated_silu(random(5, 600, dtype=dtype), scaled=True), theirs=silu(gate) * up)
    assert_scaled(*scaled_rows(hidden), theirs=hidden)


def test_a_row_of_zeros_stays_one_in_float8():
    values, scale = scaled_rows(torch.zeros(2, 16, device=DEVICE))
    assert torch.equal(values.float() * scale, torch.zeros(2, 16, device=DEVICE))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("heads", "groups", "width"), [(6, 2, 32), (8, 8, 16), (32, 8, 128)])
def test_rotation_and_the_cache_are_what_plain_torch_makes_of_them(heads, groups, width, dtype):
    rows, positions = 3, 11
    angles = random(positions, width // 2, dtype=torch.float32)
    cos, sin = torch.cat((angles, angles), dim=1).cos().to(dtype), angles.sin().to(dtype)
    places = torch.tensor([10, 0, 4], device=DEVICE)
    qkv = random(rows, (heads + 2 * groups) * width, dtype=dtype)
    caches = [
        tuple(
            torch.zeros(4, groups, positions, width, device=DEVICE, dtype=dtype).transpose(1, 2)
            for _ in range(2)
        )
        for _ in range(2)
    ]
    rotate = plain_operations(epsilon=EPSILON, heads=heads, groups=groups).rotation(cos, sin, places)
    theirs = rotate(qkv.clone(), caches[0])
    rotate_and_store(qkv, cos, sin, places, heads=heads, groups=groups, cache=caches[1])
    parts = qkv.view(rows, -1, width)
    for ours, wanted in zip(parts.split([heads, groups, groups], dim=1), theirs, strict=True):
        assert_near(ours, wanted)
    for ours, wanted in zip(caches[1], caches[0], strict=True):
        assert_near(ours, wanted)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("heads", "groups", "width"), [(6, 2, 32), (4, 4, 16), (32, 8, 128)])
def test_each_slot_sees_what_it_has_filled_and_nothing_behind_it(heads, groups, width, dtype):
    slots, positions = 3, 150
    lengths = torch.tensor([0, 63, 149], device=DEVICE)  # one position, a whole block, all
    query = random(slots, heads, width, dtype=dtype)
    keys, values = (
        random(slots + 1, groups, positions, width, dtype=dtype).roll(turn).transpose(1, 2) for turn in (0, 1)
    )
    behind = torch.arange(positions, device=DEVICE) > lengths[:, None]
    keys[:slots][behind] = float("nan")
    values[:slots][behind] = float("nan")
    ours = attend_slots(query, keys, values, lengths)
    for slot, length in enumerate(lengths.tolist()):
        filled = [part[slot, : length + 1].transpose(0, 1) for part in (keys, values)]
        theirs = scaled_dot_product_attention(query[slot][:, None], *filled, enable_gqa=True)
        assert_near(ours[slot], theirs[:, 0])
