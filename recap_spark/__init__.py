"""Recaption image-text pairs at the scale of a billion rows, as a Spark lakehouse job."""

__version__ = "0.1.0"
