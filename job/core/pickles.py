"""Pickles, read without running anything that is in them.

A pickle is a program.  This one is not executed but read, instruction by instruction, by `pickletools.genops`; the few instructions that
plain records, tensors and arrays consist of build plain descriptions here, and every other one is refused.
"""

import pickletools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING")
"""the last two are of Python 2, whose strings are bytes: here text in Latin-1"""
OTHERS = ("BINBYTES", "SHORT_BINBYTES", "BININT", "BININT1", "BININT2", "LONG1")
CONSTANTS = {"NEWTRUE": True, "NEWFALSE": False, "NONE": None}


class Refused(Exception):  # noqa: N818  turned into a JobError that names the file
    """The pickle holds something else than what is expected; the text says what."""


@dataclass(frozen=True)
class Name:
    """Something that the pickle would import."""

    name: str
    """module and name, with a blank between them"""


def _refuse(*_: Any) -> Any:
    raise Refused("it refers to something outside of itself")


def described(
    pickle: bytes,
    *,
    allowed: Collection[str],
    call: Callable[[Any, tuple[Any, ...]], Any],
    set_state: Callable[[Any, Any], None] = lambda thing, state: None,
    look_up: Callable[[Any], Any] = _refuse,
) -> Any:
    """What the pickle describes, of numbers, texts, bytes, tuples, lists and dictionaries, and of what the functions make.

    `allowed`: what it may name; `call`: what one of these, as a Name, gives for some arguments; `set_state`: what follows from a state
    that is given to such a thing; `look_up`: what a persistent identity stands for.  Raises Refused.
    """
    try:
        return _interpreted(pickle, allowed, call, set_state, look_up)
    except Refused:
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # what genops and a stack that runs empty raise
        raise Refused(f"it is damaged: {type(error).__name__}") from None


def _interpreted(
    pickle: bytes,
    allowed: Collection[str],
    call: Callable[[Any, tuple[Any, ...]], Any],
    set_state: Callable[[Any, Any], None],
    look_up: Callable[[Any], Any],
) -> Any:
    """Python's pickletools.py explains each instruction."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        taken = stack[start:]
        del stack[start:]
        return taken

    def last(count: int) -> tuple[Any, ...]:
        if len(stack) < count:
            raise IndexError
        taken = tuple(stack[len(stack) - count :])
        del stack[len(stack) - count :]
        return taken

    instructions: Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]] = pickletools.genops(pickle)
    for code, argument, _ in instructions:
        match code.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                marks.append(len(stack))
            case name if name in TEXTS or name in OTHERS:
                stack.append(argument)
            case name if name in CONSTANTS:
                stack.append(CONSTANTS[name])
            case "EMPTY_TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(last(0 if code.name == "EMPTY_TUPLE" else int(code.name[-1])))
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "EMPTY_LIST":
                stack.append([])
            case "APPEND" | "APPENDS":
                items = since_mark() if code.name == "APPENDS" else list(last(1))
                stack[-1].extend(items)
            case "EMPTY_DICT":
                stack.append({})
            case "SETITEM" | "SETITEMS":
                pairs = since_mark() if code.name == "SETITEMS" else list(last(2))
                stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))
            case "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                memo[len(memo) if argument is None else argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_allowed(argument, allowed))
            case "STACK_GLOBAL":
                stack.append(_allowed(" ".join(last(2)), allowed))
            case "BINPERSID":
                stack.append(look_up(stack.pop()))
            case "REDUCE":
                stack.append(call(*last(2)))
            case "BUILD":
                state = stack.pop()
                set_state(stack[-1], state)
            case _:
                raise Refused(f"it has the instruction {code.name}, which nothing needs that is expected here")
    raise Refused("it has no end")


def _allowed(name: str, allowed: Collection[str]) -> Name:
    if name not in allowed:
        raise Refused(f"it would import {name.replace(' ', '.')[:80]!r}, which is not allowed")
    return Name(name)
