"""Whether a device computes with a type of numbers"""

from __future__ import annotations

from recap_spark.errors import PlatformError


def check_dtype(dtype: str, device: str, *, key: str) -> None:
    """Raise PlatformError where the device has no arithmetic of its own for what the setting `key` names."""
    if device == "cpu" or dtype != "bfloat16":
        return
    import torch

    with torch.cuda.device(device):
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            raise PlatformError(f"{key}: want a GPU with bfloat16, found {torch.cuda.get_device_name()}")
