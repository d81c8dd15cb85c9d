"""One test for each numbered admission check, and one for each way to pass it by a hair."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from protocol.chain import GENESIS, ChainHead
from protocol.digest import sha256_hex
from protocol.envelope import MAX_ENVELOPE_BYTES, parse_statement, seal, sign_statement, take_apart
from protocol.findings import FindingCode
from protocol.identifiers import DockId
from protocol.keys import SigningKey
from protocol.manifest import FileName, Manifest, name_of
from protocol.receipt import Receipt
from protocol.registry import DockEntry, RecorderEntry, Registry
from protocol.versions import Statement
from server_agent.intake.checks import (
    Accepted,
    Claim,
    History,
    KnownSite,
    Refused,
    Repeated,
    Verdict,
    Waiting,
    examine,
    has_utc,
    place_waiting,
    read_claim,
    read_kept,
)
from tests.protocol.vectors import VECTORS, expand, read_json
from tests.simulators.claims import DOCKED_AT, RECORDER, Claimant, staged

DOCK = DockId("dock-01")
OTHER = DockId("dock-02")
TOPIC = f"bayward/v1/docks/{DOCK}/manifests"
KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\1"))
OTHER_KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\2"))
REGISTRY = Registry(
    version=1,
    issued_at=DOCKED_AT,
    docks=(
        DockEntry(dock=DOCK, name="one", signing_key=KEY.public.spki_der),
        DockEntry(dock=OTHER, name="two", signing_key=OTHER_KEY.public.spki_der),
    ),
    recorders=(
        RecorderEntry(
            recorder=RECORDER.recorder_id,
            make=RECORDER.make,
            model=RECORDER.model,
            serial=RECORDER.serial,
        ),
    ),
)
SITE = KnownSite.of(REGISTRY)
CASES = sorted(VECTORS.glob("F-ADM-00*"))


def admit(
    envelope: bytes, *, topic: str = TOPIC, head: ChainHead = GENESIS, **history: Any
) -> Verdict:
    return examine(topic, envelope, site=SITE, history=lambda _claim: History(head=head, **history))


def refusal(verdict: Verdict) -> Refused:
    assert isinstance(verdict, Refused), verdict
    return verdict


def claimant() -> Claimant:
    return Claimant(DOCK, KEY)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_vector_is_refused_by_its_check(case: Path) -> None:
    """Each committed message fails the check that its folder is named after."""
    told = read_json(case / "case.json")
    registry = parse_statement(
        take_apart((case / told["registry"]).read_bytes()), Statement.REGISTRY, Registry
    )
    message = case / told["message"]
    untrusted = expand(message) if message.name == "recipe.json" else message.read_bytes()
    head = GENESIS
    if told["head"] is not None:
        payload = (case / told["head"]).read_bytes()
        head = ChainHead(
            sequence=json.loads(payload)["sequence"], payload_sha256=sha256_hex(payload)
        )

    verdict = examine(
        told["topic"],
        untrusted,
        site=KnownSite.of(registry),
        history=lambda _claim: History(head=head),
    )

    assert refusal(verdict).code.value == told["expect"] == case.name


def test_good_manifest_is_accepted() -> None:
    """A manifest that nothing speaks against is accepted, and read as it was signed."""
    claim = claimant().claim()

    verdict = admit(claim.envelope)

    assert isinstance(verdict, Accepted)
    assert verdict.claim.manifest == claim.manifest
    assert verdict.claim.payload_sha256 == claim.payload_sha256
    assert verdict.claim.envelope == claim.envelope


@pytest.mark.parametrize(
    "topic",
    [
        f"bayward/v1/docks/{DOCK}/alerts",
        f"bayward/v1/docks/{DOCK}/manifests/1",
        "bayward/v1/docks/archive/manifests",
        "bayward/v1/docks/dock-03/manifests",
        f"bayward/v2/docks/{DOCK}/manifests",
        "",
        "\udcff",
    ],
)
def test_1_topic_of_no_known_dock(topic: str) -> None:
    """Check 1: only a registered dock's manifests topic counts, and nobody is answered."""
    found = refusal(admit(claimant().claim().envelope, topic=topic))

    assert found.code is FindingCode.UNKNOWN_DOCK
    assert found.dock is None


def test_2_size() -> None:
    """Check 2: one byte too many is refused before it is looked at."""
    assert refusal(admit(bytes(MAX_ENVELOPE_BYTES + 1))).code is FindingCode.MESSAGE_TOO_LARGE
    assert refusal(admit(bytes(MAX_ENVELOPE_BYTES))).code is FindingCode.ENVELOPE_MALFORMED


def test_4_another_docks_key() -> None:
    """Check 4: a registered key of another dock signs nothing here."""
    forged = Claimant(DOCK, OTHER_KEY).claim()

    assert refusal(admit(forged.envelope)).code is FindingCode.SIGNATURE_WRONG


def test_4_payload_type_is_signed() -> None:
    """Check 4: the same bytes under another payload type are not what was signed."""
    envelope = claimant().claim().envelope.replace(b"manifest.v1", b"receipt.v1")

    assert refusal(admit(envelope)).code is FindingCode.SIGNATURE_WRONG


@pytest.mark.parametrize(
    "payload",
    [b"", b"{}", b"[]", b"\xff", b"[" * 100_000, b'{"sequence":1.5}'],
    ids=["empty", "no fields", "list", "not text", "deep", "float"],
)
def test_5_unreadable_payload(payload: bytes) -> None:
    """Check 5: what a dock signed and nobody can read is refused."""
    envelope = seal(payload, Statement.MANIFEST, KEY)

    assert refusal(admit(envelope)).code is FindingCode.STATEMENT_UNREADABLE


def test_5_another_statement() -> None:
    """Check 5: a dock's signature under another kind of statement is no manifest."""
    manifest = claimant().claim().manifest
    receipt = Receipt(
        receipt_id=manifest.manifest_id,  # type: ignore[arg-type]  # any UUIDv7 will do
        manifest_id=manifest.manifest_id,
        dock=DOCK,
        sequence=1,
        payload_sha256="0" * 64,
        archived_at=DOCKED_AT,
    )

    verdict = admit(sign_statement(receipt, Statement.RECEIPT, KEY))

    assert refusal(verdict).code is FindingCode.STATEMENT_UNREADABLE


def test_6_another_docks_name() -> None:
    """Check 6: a dock cannot claim in another dock's name, though its own key signed."""
    manifest = replace(claimant().claim().manifest, dock=OTHER)

    found = refusal(admit(claimant().sign(manifest).envelope))

    assert found.code is FindingCode.OTHER_DOCK
    assert found.dock == DOCK
    assert not found.keeps_place


def test_7_next_of_the_chain() -> None:
    """Check 7: the manifest that names the head's digest goes on."""
    dock = claimant()
    first, second = dock.claim(), dock.claim(recordings=[[b"two"]])

    assert isinstance(admit(second.envelope, head=first.head), Accepted)


def test_7_later_one_waits() -> None:
    """Check 7: a number beyond the next one is kept until those before it are there."""
    dock = claimant()
    dock.claim()
    second = dock.claim(recordings=[[b"two"]])

    assert isinstance(admit(second.envelope), Waiting)


def test_7_same_bytes_again() -> None:
    """Check 7: what the chain has is harmless; so is what waits already."""
    dock = claimant()
    first, second = dock.claim(), dock.claim(recordings=[[b"two"]])

    archived = admit(first.envelope, head=second.head, recorded_sha256=first.payload_sha256)
    waiting = admit(second.envelope, recorded_sha256=second.payload_sha256)

    assert isinstance(archived, Repeated)
    assert isinstance(waiting, Repeated)


def test_7_other_bytes_under_a_taken_number() -> None:
    """Check 7: a second history is refused and takes no place."""
    kept, forked = claimant().claim(), claimant().claim(recordings=[[b"another history"]])

    found = refusal(admit(forked.envelope, head=kept.head, recorded_sha256=kept.payload_sha256))

    assert found.code is FindingCode.CHAIN_FORKED
    assert not found.keeps_place
    assert found.claim is not None


def test_7_wrong_predecessor() -> None:
    """Check 7: the next number that names another predecessor is a second history."""
    dock = claimant()
    dock.claim()
    second = dock.claim(recordings=[[b"two"]])
    other_head = ChainHead(sequence=1, payload_sha256="f" * 64)

    assert refusal(admit(second.envelope, head=other_head)).code is FindingCode.CHAIN_FORKED


def test_7_taken_id() -> None:
    """Check 7: an id that another manifest has would let two manifests be one."""
    verdict = admit(claimant().claim().envelope, id_is_taken=True)

    assert refusal(verdict).code is FindingCode.CHAIN_FORKED


def test_7_one_that_waited() -> None:
    """Check 7 again, when the chain has grown: wait on, go on, or turn out not to follow."""
    dock = claimant()
    first, second = dock.claim(), dock.claim(recordings=[[b"two"]])
    claim = read_kept(second.envelope)
    elsewhere = ChainHead(sequence=1, payload_sha256="f" * 64)

    assert place_waiting(claim, site=SITE, history=History(head=GENESIS)) is None
    assert isinstance(place_waiting(claim, site=SITE, history=History(head=first.head)), Accepted)
    forked = place_waiting(claim, site=SITE, history=History(head=elsewhere))
    assert isinstance(forked, Refused)
    assert forked.code is FindingCode.CHAIN_FORKED


@pytest.mark.parametrize("changed", ["recorder_id", "model", "serial"])
def test_8_unknown_recorder(changed: str) -> None:
    """Check 8: number, model and serial have to be one registered recorder's; its place is kept."""
    stranger = replace(RECORDER, **{changed: "X-9999"})

    found = refusal(admit(claimant().claim(recorder=stranger).envelope))

    assert found.code is FindingCode.UNKNOWN_RECORDER
    assert found.keeps_place


def _twice(manifest: Manifest) -> Manifest:
    return replace(manifest, recordings=manifest.recordings * 2)


def _clip_number(number: int) -> Callable[[Manifest], Manifest]:
    def changed(manifest: Manifest) -> Manifest:
        [recording] = manifest.recordings
        clip = replace(recording.clips[0], sequence=number)
        return replace(manifest, recordings=(replace(recording, clips=(clip,)),))

    return changed


def _nul(manifest: Manifest) -> Manifest:
    return replace(manifest, other_files=(replace(staged("a", b"a"), name=name_of(b"a\0b")),))


def _named(path: str, raw_path: bytes) -> Callable[[Manifest], Manifest]:
    def changed(manifest: Manifest) -> Manifest:
        file = replace(staged("a", b"a"), name=FileName(path=path, raw_path=raw_path))
        return replace(manifest, other_files=(file,))

    return changed


def _year_zero(manifest: Manifest) -> Manifest:
    return replace(manifest, docked_at=datetime.fromisoformat("0001-01-01T00:00:00+14:00"))


@pytest.mark.parametrize(
    "change",
    [
        _twice,
        _clip_number(-1),
        _clip_number(1 << 31),
        _clip_number(10**40),
        _nul,
        _year_zero,
        lambda manifest: replace(manifest, part=1 << 31),
        lambda manifest: replace(manifest, other_files=(staged("DCIM/1/0001.MP4", b"x"),)),
        _named("LOG/trash.log", b"DCIM/evidence.MP4"),
        _named("LOG/a.log", b"LOG/a.log"),
        _named("LOG/\\xb8.log", b"LOG/\xb7.log"),
    ],
    ids=[
        *("recording", "negative", "33 bits", "huge", "NUL", "year 0", "part", "path"),
        *("two names", "needless bytes", "other bytes"),
    ],
)
def test_9_contradiction(change: Callable[[Manifest], Manifest]) -> None:
    """Check 9: what contradicts itself, or fits no catalogue, is refused in its place."""
    dock = claimant()
    manifest = change(dock.claim().manifest)

    found = refusal(admit(dock.sign(manifest).envelope))

    assert found.code is FindingCode.MANIFEST_CONTRADICTS
    assert found.keeps_place


def test_9_a_name_that_is_no_text() -> None:
    """Check 9: exact bytes beside their text are accepted where the text is theirs."""
    dock = claimant()
    file = replace(staged("a", b"a"), name=name_of(b"LOG/\xb7\xa8.log"))
    manifest = replace(dock.claim().manifest, other_files=(file,))

    assert isinstance(admit(dock.sign(manifest).envelope), Accepted)


def test_9_docking_claimed_before() -> None:
    """Check 9: a part of a docking belongs to one manifest."""
    found = refusal(admit(claimant().claim().envelope, docking_is_taken=True))

    assert found.code is FindingCode.MANIFEST_CONTRADICTS
    assert found.keeps_place


def test_9_recording_claimed_before() -> None:
    """Check 9: a recording belongs to one manifest."""
    claim = claimant().claim()
    taken = [claim.manifest.recordings[0].recording_id]

    found = refusal(admit(claim.envelope, taken_recordings=taken))

    assert found.code is FindingCode.MANIFEST_CONTRADICTS
    assert taken[0] in found.detail


def test_first_failed_check_decides() -> None:
    """A message that fails several checks gets the lowest number."""
    stranger = replace(RECORDER, serial="X")
    forged = Claimant(DOCK, OTHER_KEY).claim(recorder=stranger)

    unknown = refusal(admit(forged.envelope, topic="bayward/v1/docks/dock-03/manifests"))
    unsigned = refusal(admit(forged.envelope))

    assert unknown.code is FindingCode.UNKNOWN_DOCK
    assert unsigned.code is FindingCode.SIGNATURE_WRONG


def test_kept_bytes_are_read_as_they_were() -> None:
    """What passed checks 1 to 6 is read again the same, without its dock's key."""
    claim = claimant().claim()
    read = read_claim(TOPIC, claim.envelope, site=SITE)

    assert isinstance(read, Claim)
    assert read_kept(claim.envelope) == read


@pytest.mark.parametrize("time", ["0001-01-01T00:30:00+00:00", "9999-12-31T23:30:00+00:00"])
def test_a_time_at_the_end_of_the_calendar(time: str) -> None:
    """It has no date where the console is read: no page could show it."""
    at = datetime.fromisoformat(time)
    with pytest.raises(OverflowError):
        (at.astimezone(timezone(timedelta(hours=-8))), at.astimezone(timezone(timedelta(hours=8))))

    assert not has_utc(at)
