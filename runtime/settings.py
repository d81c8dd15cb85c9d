"""Read a TOML configuration file into a typed value, or say exactly which key is wrong.

msgspec tells what is wrong only as text. This module is the one place that takes it apart, and
tests/runtime/test_settings.py fails when the text changes.
"""

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect

from runtime.errors import SettingsError

T = TypeVar("T")

_PLACED: Final = re.compile(
    r"(?P<problem>.*) - at (?P<key>`key` in )?`(?P<path>\$[^`]*)`", re.DOTALL
)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<name>.*)`")
_MISSING: Final = re.compile(r"Object missing required field `(?P<name>.*)`")
_STEP: Final = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+|\.\.\.)\]")


def load_toml(path: Path, type_: type[T]) -> T:
    """Read a TOML file as a value of a msgspec type.

    A field of type `Path` that is relative in the file is relative to the file's directory, and
    absolute in the value. Nothing is coerced: ``"8"`` is no number.

    Args:
        path: The file.
        type_: A msgspec Struct with ``forbid_unknown_fields=True``, as all structs in it.

    Raises:
        SettingsError: The file is not TOML, or a key of it is unknown, missing or wrong.
        OSError: The file cannot be read.
    """
    content = path.read_bytes()
    base = path.absolute().parent

    def decode(wanted: type[Any], value: object) -> Path:
        if wanted is not Path:
            raise NotImplementedError(f"{wanted} in a configuration type")
        if not isinstance(value, str):
            raise TypeError(f"Expected a path, got `{type(value).__name__}`")
        if not value:
            raise ValueError("Expected a path, got nothing")
        return base / value

    try:
        untyped = tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        raise SettingsError(path, key_path="$", problem=f"not UTF-8: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(path, key_path="$", problem=f"not TOML: {error}") from None
    try:
        return msgspec.convert(untyped, type_, strict=True, dec_hook=decode)
    except msgspec.ValidationError as error:
        key_path, problem = _explain(str(error), type_)
        raise SettingsError(path, key_path=key_path, problem=problem) from None


def _explain(text: str, type_: type[Any]) -> tuple[str, str]:
    """Return where msgspec found something wrong, and what would be right there."""
    placed = _PLACED.fullmatch(text)
    key_path, problem = (placed["path"], placed["problem"]) if placed else ("$", text)
    if placed and placed["key"]:
        return key_path, f"one of its keys: {problem}"
    if unknown := _UNKNOWN.fullmatch(problem):
        allowed = _field_names(_types_at(key_path, type_))
        return f"{key_path}.{unknown['name']}", f"unknown key; allowed: {', '.join(allowed)}"
    if missing := _MISSING.fullmatch(problem):
        key_path, problem = f"{key_path}.{missing['name']}", "missing"
    if allowed := _choices(key_path, type_):
        problem = f"{problem}; allowed: {', '.join(allowed)}"
    return key_path, problem


def _types_at(key_path: str, type_: type[Any]) -> list[inspect.Type]:
    types = _alternatives([inspect.type_info(type_)])
    for step in _STEP.finditer(key_path):
        types = _alternatives(
            found
            for outer in types
            for found in (
                _fields(outer, step["name"]) if step["name"] else _items(outer, step["index"])
            )
        )
    return types


def _alternatives(types: Iterable[inspect.Type]) -> list[inspect.Type]:
    flat: list[inspect.Type] = []
    for found in types:
        flat += found.types if isinstance(found, inspect.UnionType) else (found,)
    return flat


def _fields(outer: inspect.Type, name: str) -> list[inspect.Type]:
    if not isinstance(outer, inspect.StructType):
        return []
    return [field.type for field in outer.fields if field.encode_name == name]


def _items(outer: inspect.Type, index: str) -> list[inspect.Type]:
    match outer:
        case inspect.DictType(value_type=item):
            return [item]
        case inspect.TupleType(item_types=items):
            return [items[int(index)]]
        case inspect.CollectionType(item_type=item):
            return [item]
        case _:
            return []


def _field_names(types: Iterable[inspect.Type]) -> list[str]:
    return sorted(
        {
            field.encode_name
            for found in types
            if isinstance(found, inspect.StructType)
            for field in found.fields
        }
    )


def _choices(key_path: str, type_: type[Any]) -> list[str]:
    """Return what a key may be, if that is one of a list."""
    values: list[object] = []
    for found in _types_at(key_path, type_):
        if isinstance(found, inspect.EnumType):
            values += [member.value for member in found.cls]
        elif isinstance(found, inspect.LiteralType):
            values += found.values
    table, _, name = key_path.rpartition(".")
    for found in _types_at(table, type_):
        if isinstance(found, inspect.StructType) and name and found.tag_field == name:
            values.append(found.tag)
    return [repr(value) for value in values]
