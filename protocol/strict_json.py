"""From received bytes to typed values, once, strictly.

Two JSON readers must never see two truths in the same signed bytes. So: bounded
size, no duplicate keys, no floats, no unknown fields, no unknown values.
"""

import json
from typing import Final, TypeVar

import msgspec

from protocol.errors import DuplicateKeyError, MalformedError, SchemaError, TooLargeError

T = TypeVar("T")


class Message(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Base of everything that is read from received bytes; subclasses repeat frozen and kw_only."""


_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


def _without_duplicates(pairs: list[tuple[str, object]]) -> None:
    names = {name for name, _ in pairs}
    if len(names) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise DuplicateKeyError(f"the key {name[:80]!r} stands twice in one object")
            seen.add(name)


def _no_float(text: str) -> None:
    raise SchemaError(f"{text[:40]!r} is not a whole number")


def parse(untrusted: bytes, type_: type[T], *, max_bytes: int) -> T:
    """Return *untrusted* as a *type_*.

    Args:
        untrusted: One JSON value in UTF-8.
        type_: A msgspec type; its structs forbid unknown fields.
        max_bytes: More than this is refused before a byte is parsed.

    Raises:
        TooLargeError: More than *max_bytes*.
        MalformedError: Not one JSON value in UTF-8, or nested beyond the interpreter's limit.
        SchemaError: Not a *type_*; the message names the place, such as ``$.bays[2].state``.
        DuplicateKeyError: An object names a key twice.
    """
    if len(untrusted) > max_bytes:
        raise TooLargeError(f"{len(untrusted)} bytes, at most {max_bytes} are read")
    try:
        value = msgspec.json.decode(untrusted, type=type_, strict=True)
        # msgspec keeps the last of two equal keys and does not say so.
        json.loads(
            untrusted,
            object_pairs_hook=_without_duplicates,
            parse_float=_no_float,
            parse_constant=_no_float,
        )
    except msgspec.ValidationError as error:
        raise SchemaError(str(error)) from None
    except RecursionError:
        raise MalformedError("nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise MalformedError(str(error)) from None
    return value


def encode(value: msgspec.Struct) -> bytes:
    """Return *value* as JSON bytes: the same value gives the same bytes."""
    return _ENCODER.encode(value)
