"""What pydantic wanted of a value, in the words of the one who wrote the file"""

from __future__ import annotations

from pydantic_core import ErrorDetails

_WANTED = {
    "list_type": "a list",
    "tuple_type": "a list",
    "frozen_set_type": "a list",
    "set_type": "a list",
    "dict_type": "a section of keys",
    "model_type": "a section of keys",
    "model_attributes_type": "a section of keys",
    "dataclass_type": "a section of keys",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text: put it in quotes",
    "literal_error": "{expected}",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "too_short": "at least {min_length} of them",
    "string_pattern_mismatch": "text like {pattern}",
    "union_tag_invalid": "{discriminator} to be one of {expected_tags}, found {tag!r}",
    "union_tag_not_found": "a section with the key {discriminator}",
}


def plainly(problem: ErrorDetails) -> str:
    """`want …`; of a kind that settings do not have, pydantic's own words."""
    context = problem.get("ctx", {})
    if problem["type"] == "value_error":
        return str(context["error"])
    if problem["type"] == "less_than" and context["lt"] == float("inf"):
        return "want a finite number"
    wanted = _WANTED.get(problem["type"])
    if wanted is None:
        return problem["msg"]
    return "want " + wanted.format(**{name: _number(value) for name, value in context.items()})


def _number(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value
