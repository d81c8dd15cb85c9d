"""Write the JSON Schemas and the protocol's test vectors, or check that they are current.

    python -m scripts.vectors            writes protocol/schemas/ and tests/vectors/
    python -m scripts.vectors --check    ends with 1 when a committed file is not current

Everything is made from fixed seeds and fixed times: the same release writes the same bytes. Only
the certificates below tests/vectors/pki are made when they are not there, and are inputs after.
"""

import argparse
import json
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from protocol import messages
from protocol.attestation import Attestation
from protocol.attested import Attested
from protocol.chain import GENESIS, ChainHead
from protocol.commands import Command, CommandAnswer
from protocol.digest import sha256_hex
from protocol.envelope import pre_authentication_encoding, seal, sign_statement
from protocol.findings import FindingCode
from protocol.identifiers import DockId
from protocol.keys import SigningKey
from protocol.log_proofs import LoggedReceipt, SeenCheckpoint
from protocol.manifest import Manifest
from protocol.receipt import (
    Admission,
    AdmissionState,
    MissingFile,
    Receipt,
    Refusal,
)
from protocol.registry import Registry
from protocol.strict_json import encode
from protocol.topics import Channel, of_dock
from protocol.versions import Statement
from scripts.bag_vectors import bag_vectors, make_certificates_once
from scripts.log_vectors import log_vectors
from scripts.samples import (
    DOCK,
    OTHER_DOCK,
    TIME,
    attestation,
    attested,
    chain,
    command,
    manifest,
    public_key,
    receipt,
    registry,
    signing_key,
)
from scripts.volume_vectors import volume_vectors

ROOT: Final = Path(__file__).resolve().parent.parent
SCHEMAS: Final = ROOT / "protocol" / "schemas"
VECTORS: Final = ROOT / "tests" / "vectors"

# What was done to an envelope → its bytes, and the code of the error that must come of it.
Attacks: TypeAlias = Mapping[str, tuple[bytes, str]]

_SCHEMA_TYPES: Final[tuple[type[msgspec.Struct], ...]] = (
    Manifest,
    Admission,
    Refusal,
    Receipt,
    Registry,
    Command,
    CommandAnswer,
    Attestation,
    Attested,
    messages.DockStatus,
    messages.BayMessage,
    messages.DoctorReport,
    messages.Metrics,
    messages.Alert,
    LoggedReceipt,
    SeenCheckpoint,
)


def good_vectors() -> Iterator[tuple[str, bytes]]:
    """Yield what every implementation must accept."""
    dock, archive = signing_key(DOCK), signing_key("archive")
    manifests = chain()
    for one in manifests:
        yield (
            f"good/manifest-{one.sequence}.dsse.json",
            sign_statement(one, Statement.MANIFEST, dock),
        )
        yield f"good/manifest-{one.sequence}.payload.json", encode(one)
    first = manifests[0]
    common: dict[str, Any] = {"dock": DOCK, "answered_at": TIME}
    admission = Admission(
        manifest_id=first.manifest_id,
        sequence=1,
        payload_sha256=sha256_hex(encode(first)),
        state=AdmissionState.ADMITTED,
        expected_sequence=2,
        missing=tuple(
            MissingFile(sha256=file.digests.sha256, size_bytes=file.size_bytes)
            for file in first.staged_files()
        ),
        **common,
    )
    refusal = Refusal(
        message_sha256=sha256_hex(b"message"),
        code=FindingCode.SIGNATURE_WRONG,
        detail="not signed by the dock's key",
        **common,
    )
    yield "good/admission.dsse.json", sign_statement(admission, Statement.ADMISSION, archive)
    yield "good/refusal.dsse.json", sign_statement(refusal, Statement.REFUSAL, archive)
    yield "good/receipt-1.dsse.json", sign_statement(receipt(first), Statement.RECEIPT, archive)
    yield "good/registry.dsse.json", sign_statement(registry(), Statement.REGISTRY, archive)
    yield "good/command.dsse.json", sign_statement(command(), Statement.COMMAND, archive)
    attests = attestation()
    head = ChainHead(sequence=1, payload_sha256=sha256_hex(encode(attests)))
    yield "good/attestation-1.dsse.json", sign_statement(attests, Statement.ATTESTATION, dock)
    yield "good/attested.dsse.json", sign_statement(attested(head), Statement.ATTESTED, archive)
    yield (
        "good/keys.json",
        _json({name: public_key(name).hex() for name in (DOCK, OTHER_DOCK, "archive")}),
    )


def _admission_cases() -> Iterator[tuple[FindingCode, DockId | str, bytes]]:
    dock = signing_key(DOCK)
    first, second, _ = chain()
    good = sign_statement(first, Statement.MANIFEST, dock)
    tampered = json.loads(good)
    tampered["payload"] = json.loads(sign_statement(second, Statement.MANIFEST, dock))["payload"]
    stranger = manifest(
        GENESIS, recorder=msgspec.structs.replace(first.recorder, recorder_id="R-9999")
    )
    twice = manifest(GENESIS, other_files=(first.other_files[0], first.other_files[0]))
    forked = manifest(ChainHead(sequence=1, payload_sha256=sha256_hex(b"another first manifest")))
    yield FindingCode.UNKNOWN_DOCK, "dock-77", good
    yield FindingCode.MESSAGE_TOO_LARGE, DOCK, _json({"repeat": "[", "times": 100 * 1024 * 1024})
    yield FindingCode.ENVELOPE_MALFORMED, DOCK, good[: len(good) // 2]
    yield FindingCode.SIGNATURE_WRONG, DOCK, json.dumps(tampered).encode()
    yield (
        FindingCode.STATEMENT_UNREADABLE,
        DOCK,
        seal(b'{"manifest_id":1}', Statement.MANIFEST, dock),
    )
    yield (
        FindingCode.OTHER_DOCK,
        DOCK,
        sign_statement(manifest(GENESIS, dock=OTHER_DOCK), Statement.MANIFEST, dock),
    )
    yield FindingCode.CHAIN_FORKED, DOCK, sign_statement(forked, Statement.MANIFEST, dock)
    yield FindingCode.UNKNOWN_RECORDER, DOCK, sign_statement(stranger, Statement.MANIFEST, dock)
    yield FindingCode.MANIFEST_CONTRADICTS, DOCK, sign_statement(twice, Statement.MANIFEST, dock)


def admission_vectors() -> Iterator[tuple[str, bytes]]:
    """Yield one message for each admission check, which fails exactly that one.

    The chain's head is manifest 1 for F-ADM-007, else empty. A message that would be
    too large to commit is a recipe: {"repeat": text, "times": count}.
    """
    for code, dock, message in _admission_cases():
        head = 1 if code is FindingCode.CHAIN_FORKED else 0
        recipe = code is FindingCode.MESSAGE_TOO_LARGE
        case = {
            "topic": of_dock(DockId(dock), Channel.MANIFESTS),
            "registry": "../good/registry.dsse.json",
            "head": f"../good/manifest-{head}.payload.json" if head else None,
            "message": "recipe.json" if recipe else "message.dsse.json",
            "expect": code.value,
        }
        yield f"{code.value}/case.json", _json(case)
        yield f"{code.value}/{case['message']}", message


def attestation_vectors() -> Iterator[tuple[str, bytes]]:
    """Yield attestation 3 where the chain of attestations is empty."""
    head = ChainHead(sequence=2, payload_sha256=sha256_hex(b"another attestation"))
    gap = sign_statement(attestation(head), Statement.ATTESTATION, signing_key(DOCK))
    case = {
        "topic": of_dock(DOCK, Channel.ATTESTATIONS),
        "registry": "../good/registry.dsse.json",
        "head": None,
        "message": "message.dsse.json",
        "expect": FindingCode.CHAIN_GAP.value,
    }
    yield f"{FindingCode.CHAIN_GAP.value}/case.json", _json(case)
    yield f"{FindingCode.CHAIN_GAP.value}/{case['message']}", gap


def receipt_vectors() -> Iterator[tuple[str, bytes]]:
    """Yield one receipt of manifest 1 for each way in which it can be none."""
    first, second, _ = chain()
    bags = receipt(first).bags
    archive = signing_key("archive")
    cases: Mapping[FindingCode, tuple[Receipt, SigningKey]] = {
        FindingCode.RECEIPT_NOT_SIGNED: (receipt(first), signing_key("somebody else")),
        FindingCode.RECEIPT_OTHER_MANIFEST: (receipt(second), archive),
        FindingCode.RECEIPT_RECORDINGS_DIFFER: (receipt(first, bags=bags[1:]), archive),
        FindingCode.RECEIPT_COUNTS_DIFFER: (
            receipt(first, bags=(msgspec.structs.replace(bags[0], files=2), *bags[1:])),
            archive,
        ),
    }
    for code, (statement, key) in cases.items():
        yield (
            f"{code.value}/case.json",
            _json(
                {
                    "manifest": "../good/manifest-1.payload.json",
                    "receipt": "receipt.dsse.json",
                    "expect": code.value,
                }
            ),
        )
        yield f"{code.value}/receipt.dsse.json", sign_statement(statement, Statement.RECEIPT, key)


def _attacks_on_the_envelope(payload: bytes, dock: SigningKey) -> Attacks:
    good = seal(payload, Statement.MANIFEST, dock)
    taken_apart = json.loads(good)
    changed = bytearray(good)
    changed[good.index(b'"payload":"') + 40] ^= 1
    signatures = taken_apart["signatures"]
    unpadded = taken_apart | {"payload": taken_apart["payload"].rstrip("=") + "%%"}
    return {
        "wrong-key": (seal(payload, Statement.MANIFEST, signing_key(OTHER_DOCK)), "E-PRO-108"),
        "borrowed-key-id": (
            _envelope(taken_apart | {"signatures": [signatures[0] | {"sig": "A" * 86 + "=="}]}),
            "E-PRO-109",
        ),
        "changed-byte": (bytes(changed), "E-PRO-109"),
        "truncated": (good[:-1], "E-PRO-107"),
        "empty": (b"", "E-PRO-107"),
        "not-base64": (_envelope(unpadded), "E-PRO-107"),
        "no-signature": (_envelope(taken_apart | {"signatures": []}), "E-PRO-107"),
        "two-signatures": (_envelope(taken_apart | {"signatures": signatures * 2}), "E-PRO-107"),
        "unknown-envelope-field": (_envelope(taken_apart | {"note": "x"}), "E-PRO-107"),
        "duplicate-envelope-key": (good.replace(b"{", b'{"payload":"",', 1), "E-PRO-103"),
        "replayed-as-receipt": (
            _envelope(taken_apart | {"payloadType": "application/vnd.bayward.receipt.v1+json"}),
            "E-PRO-109",
        ),
    }


def _attacks_on_the_payload(payload: bytes, dock: SigningKey) -> Attacks:
    return {
        "a-receipt-as-manifest": (seal(payload, Statement.RECEIPT, dock), "E-PRO-105"),
        "unknown-type": (_sealed_as("application/json", payload, dock), "E-PRO-105"),
        "unknown-version": (
            _sealed_as("application/vnd.bayward.manifest.v9+json", payload, dock),
            "E-PRO-106",
        ),
        "duplicate-key": (
            seal(payload.replace(b'"part":1', b'"part":1,"part":2'), Statement.MANIFEST, dock),
            "E-PRO-103",
        ),
        "float": (
            seal(payload.replace(b'"part":1', b'"part":1.0'), Statement.MANIFEST, dock),
            "E-PRO-104",
        ),
        "unknown-field": (
            seal(payload.replace(b'"part":1', b'"part":1,"parts":1'), Statement.MANIFEST, dock),
            "E-PRO-104",
        ),
        "not-utf8": (seal(b'"\xff"', Statement.MANIFEST, dock), "E-PRO-104"),
        "trailing-bytes": (seal(payload + b"{}", Statement.MANIFEST, dock), "E-PRO-102"),
        "nested": (
            seal(b'{"findings":' + b"[" * 200_000, Statement.MANIFEST, dock),
            "E-PRO-104",
        ),
    }


def attack_vectors() -> Iterator[tuple[str, bytes]]:
    """Yield envelopes that claim to be manifest 1; each file is named after what was done to it."""
    payload, dock = encode(chain()[0]), signing_key(DOCK)
    attacks = {
        **_attacks_on_the_envelope(payload, dock),
        **_attacks_on_the_payload(payload, dock),
    }
    for name, (data, _) in attacks.items():
        yield f"attacks/{name}.dsse.json", data
    yield "attacks/nested-100-MiB.recipe.json", _json({"repeat": "[", "times": 100 * 1024 * 1024})
    yield (
        "attacks/expected.json",
        _json(
            {name: code for name, (_, code) in attacks.items()} | {"nested-100-MiB": "E-PRO-101"}
        ),
    )


def _sealed_as(payload_type: str, payload: bytes, key: SigningKey) -> bytes:
    good = json.loads(seal(payload, Statement.MANIFEST, key))
    signature = key.sign(pre_authentication_encoding(payload_type, payload))
    good["payloadType"] = payload_type
    good["signatures"][0]["sig"] = b64encode(signature).decode()
    return _envelope(good)


def _envelope(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True).encode() + b"\n"


def schemas() -> Iterator[tuple[Path, bytes]]:
    """Yield one JSON Schema (2020-12) for each message."""
    for type_ in _SCHEMA_TYPES:
        schema = msgspec.json.schema(type_)
        schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
        yield SCHEMAS / f"{type_.__name__}.schema.json", _json(schema)


def everything() -> Iterator[tuple[Path, bytes]]:
    """Yield each committed file with the bytes it must have."""
    yield from schemas()
    sources: tuple[Callable[[], Iterator[tuple[str, bytes]]], ...] = (
        good_vectors,
        admission_vectors,
        attestation_vectors,
        receipt_vectors,
        attack_vectors,
        volume_vectors,
        bag_vectors,
        log_vectors,
    )
    for source in sources:
        for name, data in source():
            yield VECTORS / name, data


def main() -> int:
    """Write all files, or compare them; see the module's text."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when not current")
    check = parser.parse_args().check
    if not check:
        for path in make_certificates_once():
            print(f"made, once and for all: {path.relative_to(ROOT)}")
    stale = [
        (path, data)
        for path, data in everything()
        if not path.exists() or path.read_bytes() != data
    ]
    for path, data in stale:
        print(f"{'not current' if check else 'wrote'}: {path.relative_to(ROOT)}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    if check and stale:
        print("run: python -m scripts.vectors")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
