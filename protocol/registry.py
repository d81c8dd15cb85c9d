"""Who and what a site knows: docks, recorders, officers. Signed by the archive, obeyed by docks."""

from typing import Annotated, Final

from msgspec import Meta

from protocol.identifiers import DockField, OfficerField, RecorderField
from protocol.manifest import Label, UtcTime
from protocol.strict_json import Message

# Databases keep it as a signed 64-bit number; an archive that counts stays below for ever.
_MOST_VERSIONS: Final = (1 << 63) - 1


class DockEntry(Message, frozen=True, kw_only=True):
    """A dock and the key (DER SubjectPublicKeyInfo, Ed25519) that signs its manifests."""

    dock: DockField
    name: Label
    signing_key: bytes


class OfficerEntry(Message, frozen=True, kw_only=True):
    """An officer and the section that he or she belongs to."""

    officer: OfficerField
    name: Label
    section: Label = ""


class RecorderEntry(Message, frozen=True, kw_only=True):
    """A recorder by its number at this site; model and serial as the recorder names itself."""

    recorder: RecorderField
    make: Label
    model: Label
    serial: Label
    officer: OfficerField | None = None


class Registry(Message, frozen=True, kw_only=True):
    """All that is registered at a site; only a higher ``version`` replaces what is known."""

    version: Annotated[int, Meta(ge=1, le=_MOST_VERSIONS)]
    issued_at: UtcTime
    docks: tuple[DockEntry, ...] = ()
    officers: tuple[OfficerEntry, ...] = ()
    recorders: tuple[RecorderEntry, ...] = ()

    def find_recorder(self, *, model: str, serial: str) -> RecorderEntry | None:
        """Return the recorder that names itself so, or None: it is not registered."""
        for entry in self.recorders:
            if (entry.model, entry.serial) == (model, serial):
                return entry
        return None
