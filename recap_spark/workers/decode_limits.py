"""What one picture may cost a decoder"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """Of one picture at one time."""

    largest_pixels: int  # by the header, before decoding
    memory_bytes: int  # that it may make the decoder allocate
    cpu_s: float

    def __post_init__(self) -> None:
        for name in ("largest_pixels", "memory_bytes", "cpu_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: want more than 0, found {getattr(self, name)}")
