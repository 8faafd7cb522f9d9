"""Pickles, read without running them.

A pickle is a program for a machine with a stack, which can call whatever it names. The machine here knows the
instructions that make plain data; what a pickle names stays a name, and what it calls becomes a note of that, `Made`,
unless the reader makes something of it. So nothing of a file is ever run, and memory is bounded by its size.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

_CONSTANTS: dict[str, Any] = {
    **{"NONE": None, "NEWTRUE": True, "NEWFALSE": False},
    **{"EMPTY_TUPLE": (), "EMPTY_LIST": [], "EMPTY_DICT": {}, "EMPTY_SET": set()},
}
_VALUES = {  # instructions whose argument is the value
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Mark:
    """Where a run of values on the stack begins."""


@dataclass(frozen=True)
class Name:
    """A function or class that a pickle names."""

    module: str
    name: str


@dataclass(eq=False)
class Made:
    """What a pickle would make by calling something: with which arguments, and the state that it gives it then."""

    called: Any
    arguments: Any
    state: Any = field(default=None, repr=False)


Make = Callable[[Any, Any], Any]


def read(data: bytes, make: Make = Made, persistent: Callable[[Any], Any] | None = None) -> Any:
    """The content of a pickle: None, numbers, strings, bytes, tuples, lists, dicts, sets, `Name` and `Made`.

    make        what stands for a call, of what is called, a `Name` most of the time, and its arguments, a tuple
    persistent  what stands for a persistent id; a pickle with such ids is refused without it

    Raises ValueError for bytes that are no pickle, and for instructions that are not of data.
    """
    machine = _Machine(make, persistent)
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.do(opcode.name, argument)
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"a pickle that makes no sense ({error!r})") from None
    raise ValueError("a pickle without an end")


class _Machine:
    def __init__(self, make: Make, persistent: Callable[[Any], Any] | None) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._make, self._persistent = make, persistent

    def do(self, name: str, argument: Any) -> None:
        """One instruction."""
        stack, memo = self.stack, self._memo
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            value = _CONSTANTS[name]
            stack.append(value.copy() if isinstance(value, list | dict | set) else value)
        elif name in _TUPLES:
            stack.append(tuple(self._top(_TUPLES[name])))
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument)])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name == "GLOBAL":
            stack.append(Name(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            module, called = self._top(2)
            stack.append(Name(str(module), str(called)))
        elif name == "PERSID" or name == "BINPERSID":
            if self._persistent is None:
                raise ValueError("a pickle of more files than one")
            stack.append(self._persistent(stack.pop() if name == "BINPERSID" else argument))
        elif name not in ("PROTO", "FRAME"):
            self._combine(name, argument)

    def _combine(self, name: str, argument: Any) -> None:
        """An instruction that makes one value of several."""
        stack = self.stack
        if name == "MARK":
            stack.append(_Mark)
        elif name == "POP":
            stack.pop()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "POP_MARK":
            self._marked()
        elif name in ("TUPLE", "LIST", "FROZENSET"):
            kind = {"TUPLE": tuple, "LIST": list, "FROZENSET": frozenset}[name]
            stack.append(kind(self._marked()))
        elif name == "DICT":
            stack.append(_paired(self._marked()))
        elif name in ("APPEND", "APPENDS", "ADDITEMS", "SETITEM", "SETITEMS"):
            values = self._top({"APPEND": 1, "SETITEM": 2}[name]) if name in ("APPEND", "SETITEM") else self._marked()
            _fill(stack[-1], values, pairs=name.startswith("SET"))
        elif name in ("REDUCE", "NEWOBJ"):
            called, arguments = self._top(2)
            stack.append(self._make(called, arguments))
        elif name == "NEWOBJ_EX":
            called, arguments, named = self._top(3)
            stack.append(self._make(called, (*arguments, named)))
        elif name == "INST":
            stack.append(self._make(Name(*argument.split(" ", 1)), tuple(self._marked())))
        elif name == "OBJ":
            called, *arguments = self._marked()
            stack.append(self._make(called, tuple(arguments)))
        elif name == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], Made):
                stack[-1].state = state
        else:
            raise ValueError(f"a pickle with the instruction {name}")

    def _top(self, count: int) -> list[Any]:
        """Take so many values from the stack."""
        taken = self.stack[-count:]
        if len(taken) < count or _Mark in taken:
            raise IndexError("the stack is empty")
        del self.stack[-count:]
        return taken

    def _marked(self) -> list[Any]:
        """Take the values since the last mark, and the mark."""
        values = []
        while (value := self.stack.pop()) is not _Mark:
            values.append(value)
        return values[::-1]


def _paired(values: list[Any]) -> dict[Hashable, Any]:
    return dict(zip(values[::2], values[1::2], strict=True))


def _fill(target: Any, values: list[Any], *, pairs: bool) -> None:
    """Put values into a container; what they would do to anything else is not known, and not done."""
    if isinstance(target, dict) and pairs:
        target.update(_paired(values))
    elif isinstance(target, list) and not pairs:
        target.extend(values)
    elif isinstance(target, set) and not pairs:
        target.update(values)
