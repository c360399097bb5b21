"""`--set KEY=VALUE` → values to lay over all files"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from recap_spark.errors import SettingsError
from recap_spark.settings.files.lake_places import LAKE
from recap_spark.settings.files.yaml_files import plain_value

KeyPath = tuple[str, ...]

_SPARK_CONF = ("session", "conf")


def read_changes(written: Iterable[str]) -> dict[KeyPath, Any]:
    """Each key's path and value, the last of those that name a key.

    A key below session.conf is Spark's, dots and all, and its value is the text that was written. Raises
    SettingsError naming what is no KEY=VALUE.
    """
    changes: dict[KeyPath, Any] = {}
    for each in written:
        key, equals, text = each.partition("=")
        parts = tuple(key.strip().split("."))
        if not equals or not all(parts):
            raise SettingsError(f"--set: want KEY=VALUE such as fetch.limits.deadline_s=5, found {key!r}")
        if parts[:2] == _SPARK_CONF and len(parts) > 2:
            changes[*_SPARK_CONF, ".".join(parts[2:])] = text
        else:
            # YAML takes {lake}/x for the beginning of a section.
            changes[parts] = text if text.startswith(LAKE) else plain_value(text)
    return changes
