"""What one picture may cost a decoder, and what becomes of it before its table"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from recap_spark.settings.values import Bytes, Count, CountOrNone, Pixels, PixelsOrAny, Ratio, Seconds

Interpolation = Literal["nearest", "bilinear", "bicubic", "area", "lanczos"]

_AT_LEAST_ONE = ("image_size", "decode_processes")


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """Of one picture at one time."""

    largest_pixels: Pixels  # by the header, before decoding
    memory_bytes: Bytes  # that it may make the decoder allocate
    cpu_s: Seconds

    def __post_init__(self) -> None:
        for name in ("largest_pixels", "memory_bytes", "cpu_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: want more than 0, found {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class PictureRules:
    """Every knob of decoding and re-encoding, by img2dataset's names where it has one. It travels to other
    processes, so it holds values only.
    """

    # What is refused, by the header, before decoding
    min_image_size: PixelsOrAny  # of the shorter side, pixels; 0: any
    max_aspect_ratio: Ratio | None  # longer side by shorter; None: any

    # Size
    resize_mode: Literal["no", "keep_ratio", "center_crop", "border", "keep_ratio_largest"]
    image_size: Pixels  # pixels; see `resizing` for which side it is
    resize_only_if_bigger: bool
    downscale_interpolation: Interpolation
    upscale_interpolation: Interpolation

    # Faces
    faces: Literal["blur", "leave"]

    # Encoding
    reencode: Literal["always", "other_formats", "changed"]
    encode_format: Literal["jpg", "png", "webp"]
    encode_quality: CountOrNone  # jpg, webp: 1 to 100; png: level of compression, 0 to 9

    # Metadata
    extract_exif: bool

    # Decoders
    decode_processes: Count  # of a task

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: want at least 1, found {getattr(self, name)}")
        if self.max_aspect_ratio is not None and self.max_aspect_ratio < 1:
            raise ValueError(f"max_aspect_ratio: want at least 1, found {self.max_aspect_ratio}")
        lowest, highest = (0, 9) if self.encode_format == "png" else (1, 100)
        if not lowest <= self.encode_quality <= highest:
            raise ValueError(
                f"encode_quality: want {lowest} to {highest} for {self.encode_format}, "
                f"found {self.encode_quality}"
            )
