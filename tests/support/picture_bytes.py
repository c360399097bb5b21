"""Pictures to try, as bytes"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def scene(width, height):
    """Soft shapes, as photographs have them, and no symmetry."""
    y, x = np.mgrid[:height, :width].astype(float)
    waves = [128 + 100 * np.sin(x / a + y / b) for a, b in ((9, 23), (31, 12), (17, -19))]
    return Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8))


def encoded(image, format, **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()
