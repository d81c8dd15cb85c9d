"""Who and what a site knows: docks, recorders, officers. Signed by the archive, obeyed by docks."""

from datetime import timedelta
from enum import Enum, unique
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


@unique
class ErasePolicy(Enum):
    """Whether docks take footage off a recorder once the archive's receipt for it is verified."""

    KEEP = "keep"
    AFTER_RECEIPT = "after_receipt"
    AFTER_DAYS = "after_days"


class EraseRule(Message, frozen=True, kw_only=True):
    """When footage may leave a recorder; ``days`` go with AFTER_DAYS and with nothing else."""

    policy: ErasePolicy = ErasePolicy.KEEP
    days: Annotated[int, Meta(ge=1, le=3_650)] | None = None

    def __post_init__(self) -> None:
        """Refuse a rule that says half of what it means."""
        if (self.policy is ErasePolicy.AFTER_DAYS) != (self.days is not None):
            raise ValueError("`days` belongs to the policy after_days, and it needs them")

    @property
    def delay(self) -> timedelta | None:
        """How long after its receipt; None for never."""
        if self.policy is ErasePolicy.KEEP:
            return None
        return timedelta(days=self.days or 0)


class ModelEraseRule(EraseRule, frozen=True, kw_only=True):
    """The rule of one model, in place of the site's; ``model`` as recorders name it."""

    model: Label


class Erasing(EraseRule, frozen=True, kw_only=True):
    """The rule of a site, and of models that have one of their own."""

    models: tuple[ModelEraseRule, ...] = ()

    def delay_of(self, model: str) -> timedelta | None:
        """Return how long after its receipt a model's footage stays on it; None for ever."""
        own = next((rule for rule in self.models if rule.model == model), None)
        return self.delay if own is None else own.delay


class Registry(Message, frozen=True, kw_only=True):
    """All that is registered at a site; only a higher ``version`` replaces what is known."""

    version: Annotated[int, Meta(ge=1, le=_MOST_VERSIONS)]
    issued_at: UtcTime
    docks: tuple[DockEntry, ...] = ()
    officers: tuple[OfficerEntry, ...] = ()
    recorders: tuple[RecorderEntry, ...] = ()
    erasing: Erasing = Erasing()

    def find_recorder(self, *, model: str, serial: str) -> RecorderEntry | None:
        """Return the recorder that names itself so, or None: it is not registered."""
        for entry in self.recorders:
            if (entry.model, entry.serial) == (model, serial):
                return entry
        return None
