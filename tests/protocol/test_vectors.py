import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from msgspec import Struct

from protocol.digest import sha256_hex
from protocol.envelope import open_statement, take_apart
from protocol.errors import ProtocolError, SignatureError, UnknownKeyError
from protocol.findings import FindingCode
from protocol.manifest import Manifest, contradictions
from protocol.receipt import Admission, Receipt, Refusal, check_receipt
from protocol.registry import Registry
from protocol.versions import Statement
from scripts import vectors as generator
from tests.protocol.vectors import VECTORS, expand, keys, read_json

GOOD = VECTORS / "good"
ATTACKS = sorted((VECTORS / "attacks").glob("*.dsse.json"))
RECEIPTS = sorted(VECTORS.glob("F-RCP-*"))
SIGNED: list[tuple[str, Statement, type[Struct], str]] = [
    ("manifest-1", Statement.MANIFEST, Manifest, "dock-01"),
    ("manifest-2", Statement.MANIFEST, Manifest, "dock-01"),
    ("manifest-3", Statement.MANIFEST, Manifest, "dock-01"),
    ("admission", Statement.ADMISSION, Admission, "archive"),
    ("refusal", Statement.REFUSAL, Refusal, "archive"),
    ("receipt-1", Statement.RECEIPT, Receipt, "archive"),
    ("registry", Statement.REGISTRY, Registry, "archive"),
]


def manifest_one() -> tuple[Manifest, str]:
    payload = take_apart((GOOD / "manifest-1.dsse.json").read_bytes()).payload
    sealed = (GOOD / "manifest-1.dsse.json").read_bytes()
    return (
        open_statement(sealed, Statement.MANIFEST, Manifest, keys("dock-01")),
        sha256_hex(payload),
    )


def test_committed_files_are_current() -> None:
    """The generator would write exactly the files that are committed."""
    stale = [path for path, data in generator.everything() if path.read_bytes() != data]

    assert stale == []


@pytest.mark.parametrize(("name", "statement", "type_", "signer"), SIGNED)
def test_good_statement_opens(
    name: str, statement: Statement, type_: type[Struct], signer: str
) -> None:
    """Each good vector opens with its signer's key and fits its committed schema."""
    sealed = (GOOD / f"{name}.dsse.json").read_bytes()
    schema = generator.SCHEMAS / f"{type_.__name__}.schema.json"

    opened = open_statement(sealed, statement, type_, keys(signer))

    assert isinstance(opened, type_)
    Draft202012Validator(read_json(schema)).validate(json.loads(take_apart(sealed).payload))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_manifest_payload_is_the_signed_bytes(number: int) -> None:
    """The payload beside an envelope is byte for byte what was signed, and agrees with itself."""
    sealed = take_apart((GOOD / f"manifest-{number}.dsse.json").read_bytes())

    assert sealed.payload == (GOOD / f"manifest-{number}.payload.json").read_bytes()
    opened = open_statement(
        (GOOD / f"manifest-{number}.dsse.json").read_bytes(),
        Statement.MANIFEST,
        Manifest,
        keys("dock-01"),
    )
    assert contradictions(opened) == ()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda path: path.name.split(".")[0])
def test_attack_is_refused_with_its_code(attack: Path) -> None:
    """Every attack ends in the protocol error that is expected of it, and in nothing else."""
    expected = read_json(VECTORS / "attacks" / "expected.json")[attack.name.split(".")[0]]

    with pytest.raises(ProtocolError) as caught:
        open_statement(attack.read_bytes(), Statement.MANIFEST, Manifest, keys("dock-01"))

    assert caught.value.code == expected


def test_every_attack_has_an_expectation() -> None:
    """No attack file is left unchecked, and none that is expected is missing."""
    named = {path.name.split(".")[0] for path in (VECTORS / "attacks").glob("*-*.json")} | {
        path.name.split(".")[0] for path in ATTACKS
    }

    assert named == set(read_json(VECTORS / "attacks" / "expected.json"))


def test_nesting_of_100_mib_is_refused_unparsed() -> None:
    """A hundred mebibytes of brackets are refused by their size alone."""
    with pytest.raises(ProtocolError) as caught:
        take_apart(expand(VECTORS / "attacks" / "nested-100-MiB.recipe.json"))

    assert caught.value.code == "E-PRO-101"


@pytest.mark.parametrize("case", RECEIPTS, ids=lambda path: path.name)
def test_wrong_receipt_is_found_out(case: Path) -> None:
    """Each receipt fixture gives exactly the finding it is named after."""
    manifest, payload_sha256 = manifest_one()
    envelope = (case / "receipt.dsse.json").read_bytes()
    try:
        receipt = open_statement(envelope, Statement.RECEIPT, Receipt, keys("archive"))
    except (SignatureError, UnknownKeyError):
        found = [FindingCode.RECEIPT_NOT_SIGNED]
    else:
        verdict = check_receipt(receipt, manifest, payload_sha256=payload_sha256)
        found = [finding.code for finding in verdict]

    assert [code.value for code in found] == [case.name]


def test_good_receipt_is_trusted() -> None:
    """Nothing speaks against the good receipt."""
    manifest, payload_sha256 = manifest_one()
    envelope = (GOOD / "receipt-1.dsse.json").read_bytes()
    receipt = open_statement(envelope, Statement.RECEIPT, Receipt, keys("archive"))

    assert check_receipt(receipt, manifest, payload_sha256=payload_sha256) == ()
