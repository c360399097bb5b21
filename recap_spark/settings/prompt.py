"""What the published captions were asked for with"""

from __future__ import annotations

PROMPT = "Please generate a detailed caption of this image. Please be as descriptive as possible."
"""The one prompt of Recap-DataComp-1B, verbatim (section 3 of its paper)."""
