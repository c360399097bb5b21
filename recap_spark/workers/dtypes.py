"""Whether a device has native arithmetic for a dtype"""

from __future__ import annotations

from recap_spark.errors import PlatformError


def check_dtype(dtype: str, device: str, *, key: str) -> None:
    """Raise PlatformError unless it is a device with native arithmetic for the dtype, which `key` sets."""
    if device == "cpu" or dtype != "bfloat16":
        return
    import torch

    with torch.cuda.device(device):
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            raise PlatformError(f"{key}: want a GPU with bfloat16, found {torch.cuda.get_device_name()}")
