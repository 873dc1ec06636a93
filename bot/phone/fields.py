"""Fields of a JSON object as the Bot API server reads them, with its complaints (td/utils/JsonBuilder.cpp)."""

from __future__ import annotations

import re
from typing import Any, Final

_INTEGER: Final = re.compile(r"-?\d{1,10}")


class FieldProblem(ValueError):
    """A field that is missing or of another type; the message is td's."""


def required_text(shape: dict[str, Any], name: str) -> str:
    """A string; a number is taken as one."""
    if shape.get(name) is None:
        raise FieldProblem(f'Can\'t find field "{name}"')
    return optional_text(shape, name)


def optional_text(shape: dict[str, Any], name: str) -> str:
    """A string, empty when it is missing."""
    value = shape.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise FieldProblem(f'Field "{name}" must be of type String')
    return str(value)


def required_integer(shape: dict[str, Any], name: str) -> int:
    """A whole number; digits in a string are taken as one."""
    value = shape.get(name)
    if value is None:
        raise FieldProblem(f'Can\'t find field "{name}"')
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise FieldProblem(f'Field "{name}" must be of type Number')
    if not _INTEGER.fullmatch(str(value)):
        raise FieldProblem(f'Field "{name}" must be a valid Number')
    return int(value)


def optional_flag(shape: dict[str, Any], name: str) -> bool:
    """A boolean, False when it is missing."""
    value = shape.get(name)
    if value is not None and not isinstance(value, bool):
        raise FieldProblem(f'Field "{name}" must be of type Boolean')
    return bool(value)


def optional_array(shape: dict[str, Any], name: str) -> list[Any] | None:
    value = shape.get(name)
    if value is not None and not isinstance(value, list):
        raise FieldProblem(f'Field "{name}" must be of type Array')
    return value


def required_object(shape: dict[str, Any], name: str) -> dict[str, Any]:
    value = shape.get(name)
    if value is None:
        raise FieldProblem(f'Can\'t find field "{name}"')
    if not isinstance(value, dict):
        raise FieldProblem(f'Field "{name}" must be of type Object')
    return value
