"""Is a decoded JSON value what a TypedDict says, down to its last field?"""

from types import UnionType
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict


def faults(value: Any, expected: Any, where: str = "") -> list[str]:
    """One line for each field that is missing, unknown or of another type; a whole number is a number, too."""
    origin, parts = get_origin(expected), get_args(expected)
    if is_typeddict(expected):
        return _of_object(value, expected, where)
    if origin in (Union, UnionType):
        found = [faults(value, part, where) for part in parts]
        return [] if [] in found else min(found, key=len)
    if origin is NotRequired:
        return faults(value, parts[0], where)
    if origin is Literal:
        return [] if value in parts else [f"{where}: {value!r}, expected {parts}"]
    if origin is list and isinstance(value, list):
        return [fault for n, item in enumerate(value) for fault in faults(item, parts[0], f"{where}[{n}]")]
    if origin is dict and isinstance(value, dict):
        inner = [fault for key, item in value.items() for fault in faults(item, parts[1], f"{where}.{key}")]
        return [fault for key in value for fault in faults(key, parts[0], where)] + inner
    allowed = (int, float) if expected is float else origin or expected
    right = isinstance(value, allowed) and (expected is bool or not isinstance(value, bool))
    return [] if right else [f"{where}: {value!r}, expected {expected}"]


def _of_object(value: Any, expected: Any, where: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{where}: {value!r}, expected {expected.__name__}"]
    hints = get_type_hints(expected, include_extras=True)
    found = [f"{where}.{name}: missing" for name in sorted(expected.__required_keys__ - value.keys())]
    found += [f"{where}.{name}: unknown" for name in sorted(value.keys() - hints.keys())]
    return found + [fault for name in value if name in hints for fault in faults(value[name], hints[name], f"{where}.{name}")]
