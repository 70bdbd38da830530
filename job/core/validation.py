"""A record as it comes from a store, checked against its TypedDict: whoever may write there may have written anything.

What comes back has the fields that the TypedDict names, and no other ones; numbers are finite, texts are free of what steers a terminal.
"""

import json
import math
import re
import types
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Literal, NotRequired, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from job.core.identity_records import Later

Record = TypeVar("Record")
Check = Callable[[Any], Any]
"""returns the value as it may be used; raises Malformed"""

LARGEST = 2**63
"""beyond any count, size or seed of ours"""
STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""control characters, which terminals obey; marks that reorder what is shown; halves of characters, which no terminal can be sent"""


class Malformed(ValueError):  # noqa: N818  what a reader calls the record
    """Not what the type says; the text names the field, what was expected, and what was received."""

    def __init__(self, expected: str, received: Any) -> None:
        self.path: list[str] = []
        self.expected, self.received = expected, _short(received)

    def __str__(self) -> str:
        return f"{'.'.join(self.path) or 'as a whole'}: expected {self.expected}, received {self.received}"


def parse(kind: type[Record], data: bytes) -> Record:
    """The record in a JSON text.  Raises ValueError saying what is wrong with it."""
    record: Record = checked(kind, decoded(data))
    return record


def decoded(data: bytes) -> Any:
    """The value of a JSON text.  Raises ValueError, also where Python's reader would run out of stack."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"it is not JSON ({plain(str(error))})") from None


def checked(kind: Any, value: Any) -> Any:
    """`value`, as far as `kind` (a TypedDict, or a union of some) knows it.  Raises Malformed."""
    return _check(kind)(value)


def plain(text: str) -> str:
    """A blank for everything that would steer a terminal."""
    return STEERING.sub(" ", text)


def _short(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else f"a list of {len(value)}"
    return plain(json.dumps(value, ensure_ascii=False)[:60])


@cache
def _check(kind: Any) -> Check:
    """How a value of this type is checked."""
    origin, arguments = get_origin(kind), get_args(kind)
    if is_typeddict(kind):
        hints = get_type_hints(kind, include_extras=True)
        required = kind.__required_keys__ - {name for name, hint in hints.items() if _is_later(hint)}
        return _fields({name: _check(hint) for name, hint in hints.items()}, required)
    if origin is NotRequired or _is_later(kind):
        return _check(arguments[0])
    if origin is Annotated:
        return _text(re.compile(arguments[1]))
    if origin is Literal:
        return _text(re.compile("|".join(map(re.escape, arguments))))
    if origin is list:
        return _list(_check(arguments[0]))
    if origin is tuple:
        return _list(_check(arguments[0]), len(arguments))
    if origin is dict:
        return _by_name(_check(arguments[0]), _check(arguments[1]))
    if origin in (Union, types.UnionType):
        return _either([_check(each) for each in arguments])
    return {str: _text(None), int: _whole, float: _number, bool: _truth, types.NoneType: _nothing}[kind]


def _is_later(kind: Any) -> bool:
    return get_origin(kind) is Annotated and get_args(kind)[1:] == get_args(Later)[1:]


def _inside(name: object, check: Check, value: Any) -> Any:
    try:
        return check(value)
    except Malformed as error:
        error.path.insert(0, plain(str(name))[:60])
        raise


def _fields(checks: dict[str, Check], required: frozenset[str]) -> Check:
    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or (missing := sorted(required - value.keys())):
            raise Malformed(f"an object with {missing[0]}" if isinstance(value, dict) else "an object", value)
        return {name: _inside(name, each, value[name]) for name, each in checks.items() if name in value}

    return check


def _by_name(name_check: Check, check: Check) -> Check:
    def check_all(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Malformed("an object", value)
        return {_inside(name, name_check, name): _inside(name, check, each) for name, each in value.items()}

    return check_all


def _list(check: Check, length: int | None = None) -> Check:
    def check_all(value: Any) -> list[Any]:
        if not isinstance(value, list) or length not in (None, len(value)):
            raise Malformed("a list" if length is None else f"a list of {length}", value)
        return [_inside(position, check, each) for position, each in enumerate(value)]

    return check_all


def _either(checks: list[Check]) -> Check:
    def check(value: Any) -> Any:
        failures = []
        for each in checks:
            try:
                return each(value)
            except Malformed as error:
                failures.append(error)
        raise max(failures, key=lambda error: error.path not in ([], ["kind"]))  # of the one that `kind` says it is

    return check


def _text(form: re.Pattern[str] | None) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise Malformed("a text", value)
        if form is not None and not form.fullmatch(value):
            raise Malformed(f"a text of the form {form.pattern}", value)
        return plain(value)

    return check


def _whole(value: Any) -> int:
    if type(value) is not int or not -LARGEST < value < LARGEST:
        raise Malformed("a whole number of up to 63 bits", value)
    return value


def _number(value: Any) -> float:
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is int and -LARGEST < value < LARGEST:
        return value
    raise Malformed("a finite number", value)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Malformed("true or false", value)
    return value


def _nothing(value: Any) -> None:
    if value is not None:
        raise Malformed("null", value)
