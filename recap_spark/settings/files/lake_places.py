"""`{lake}/…` in a settings file → the place under lake.root that it stands for"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recap_spark.errors import SettingsError

LAKE = "{lake}"


def within_lake(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values with lake.root for the `{lake}` that a text begins with: so what belongs to a lake
    moves with its root.

    `{lake}` alone, or before a slash; a text that only begins with the same letters is left as it is. Where
    lake.root is missing or no text, nothing is replaced: validation says what is wrong. Raises SettingsError
    for a lake.root that is below itself.
    """
    lake = values.get("lake")
    root = lake.get("root") if isinstance(lake, Mapping) else None
    if not isinstance(root, str):
        return dict(values)
    if _is_within(root):
        raise SettingsError(f"lake.root: want the place that {LAKE} stands for, found {root!r}")
    return {key: _placed(value, root.rstrip("/")) for key, value in values.items()}


def _placed(value: Any, root: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _placed(inner, root) for key, inner in value.items()}
    if isinstance(value, list):
        return [_placed(inner, root) for inner in value]
    if isinstance(value, str) and _is_within(value):
        return root + value.removeprefix(LAKE) or "/"
    return value


def _is_within(place: str) -> bool:
    return place == LAKE or place.startswith(LAKE + "/")
