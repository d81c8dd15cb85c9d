"""The committed vectors, as the tests read them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from protocol.keys import KeyId, VerifyingKey

VECTORS: Final = Path(__file__).resolve().parent.parent / "vectors"


def read_json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def keys(*names: str) -> Mapping[KeyId, VerifyingKey]:
    known = read_json(VECTORS / "good" / "keys.json")
    ring = [VerifyingKey.from_spki_der(bytes.fromhex(known[name])) for name in names]
    return {key.key_id: key for key in ring}


def expand(recipe: Path) -> bytes:
    """Return the message that a recipe stands for."""
    told = read_json(recipe)
    return str(told["repeat"]).encode() * int(told["times"])
