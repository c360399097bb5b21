"""A module that is not installed → the extra that brings it

The package alone is what a cluster's CPU stages need. torch, Spark and others are extras, since a platform
brings its own or a stage does without.
"""

from __future__ import annotations

import re

from recap_spark.errors import PlatformError

_BROUGHT_BY = {
    "torch": "caption",
    "transformers": "caption",
    "safetensors": "caption",
    "peft": "train",
    "tokenizers": "train",
    "pyspark": "local",
    "py4j": "local",
    "delta": "local",
    "sqlalchemy": "local",  # of MLflow's own store in a file; a server needs none here
    "alembic": "local",
    "fasttext": "filters",
    "matplotlib": "notebooks",
}
# The last line of Python's own error, which a worker's comes back as.
_SAID = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")


def missing(module: str | None) -> PlatformError | None:
    """What to install for a module that an import did not find; None where no extra brings it."""
    name = (module or "").partition(".")[0]
    extra = _BROUGHT_BY.get(name)
    if extra is None:
        return None
    return PlatformError(f'want {name}, found none: pip install "recap-spark[{extra}]" where this ran')


def missing_in(text: str) -> PlatformError | None:
    """The same, of what Spark says of a worker."""
    found = _SAID.findall(text)
    return missing(found[-1]) if found else None
