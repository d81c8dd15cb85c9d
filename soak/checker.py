"""Whether all that recorders ever held is archived once, and nothing else is left.

No code of the agents is used: folders, text files, sha256sum, openssl, SQLite, JSON and base64, as
an expert would who does not trust us.
"""

import hashlib
import os
import sqlite3
import subprocess
import tempfile
from base64 import b64decode
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from json import loads
from pathlib import Path
from typing import Any, Final

# Alerts that say a program of ours did what it must not: docs/errors.md.
OUR_FAULTS: Final = frozenset({"E-APP-701", "E-BAY-101", "E-JRN-402"})

_NO_PREDECESSOR: Final = "0" * 64
# Of one bag: as long as this, and as its bytes take on a slow disk.
_TIMEOUT_S: Final = 600
_SLOWEST_BYTES_S: Final = 20_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """A file that was on a recorder; *path* is its exact bytes, *sha256* is hex."""

    serial: str
    path: bytes
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a site keeps what is looked at."""

    archive: Path
    catalogue: Path
    journal: Path
    staging: Path
    dock_certificate: Path
    archive_certificate: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """A file in a bag: whose it was, how it was called, and which bag it is."""

    serial: str
    names: frozenset[bytes]
    sha256: str
    bag: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """A row of the dock's journal: a manifest, and what the archive answered."""

    sequence: int
    state: str
    payload: bytes
    content: dict[str, Any]
    receipt: dict[str, Any] | None
    envelopes: tuple[bytes, ...]


def check(originals: Iterable[Original], places: Places) -> list[str]:
    """Return every fault that can be seen from outside, after all is said to be archived."""
    archived = [file for bag in find_bags(places.archive) for file in contents_of(bag)]
    claims = list(_claims(places.journal))
    return [
        *_bad_bags(find_bags(places.archive)),
        *_wrong_copies(list(originals), archived, claims),
        *_broken_chain(claims),
        *_bad_signatures(claims, places),
        *_unreceipted(claims, places.catalogue),
        *leftovers(places),
        *_problems_told(places),
    ]


def find_bags(archive: Path) -> list[Path]:
    """Return the folders of all bags that have their place."""
    found = []
    for folder, inside, names in os.walk(archive):
        if "bagit.txt" in names:
            inside.clear()
            found.append(Path(folder))
        else:
            inside[:] = [name for name in inside if name != ".incoming"]
    return sorted(found)


def contents_of(bag: Path) -> Iterator[Archived]:
    """Yield what a bag holds: digests by its manifest, names by the file that describes it."""
    lines = (bag / "manifest-sha256.txt").read_text().splitlines()
    digests = {
        name.removeprefix("data/"): digest for digest, name in (x.split("  ", 1) for x in lines)
    }
    told = loads((bag / "bayward" / "recording.json").read_bytes())
    for file in told["files"]:
        names = [file["original"], *file.get("also_named", ())]
        yield Archived(
            serial=told["recorder"]["serial"],
            names=frozenset(b64decode(name["path_bytes"]) for name in names),
            sha256=digests.pop(file["stored_as"]),
            bag=bag,
        )
    if digests:
        raise ValueError(f"{bag}: {sorted(digests)} are not described")


def not_archived(originals: Iterable[Original], archived: Collection[tuple[str, str]]) -> list[str]:
    """Return what is missing in the archive, which holds *archived*: serial and digest each."""
    return [
        f"{one.serial} {one.path!r}: not archived"
        for one in originals
        if one.size_bytes and (one.serial, one.sha256) not in archived
    ]


def leftovers(places: Places) -> list[str]:
    """Return what is still on its way, or was forgotten there."""
    inside = [
        *(places.staging / name for name in ("partial", "files", "salvaged", "orphaned")),
        places.archive / ".incoming",
    ]
    return [
        f"left behind: {entry}"
        for folder in inside
        if folder.is_dir()
        for entry in sorted(folder.rglob("*"))
        if not entry.is_dir()
    ]


def _rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
        return opened.execute(query).fetchall()


def _bad_bags(bags: Iterable[Path]) -> Iterator[str]:
    for bag in bags:
        for manifest in ("manifest-sha256.txt", "tagmanifest-sha256.txt"):
            told = subprocess.run(
                ["sha256sum", "--quiet", "--strict", "--check", manifest],
                cwd=bag,
                capture_output=True,
                text=True,
                check=False,
                timeout=_TIMEOUT_S + _size_bytes(bag) / _SLOWEST_BYTES_S,
            )
            if told.returncode:
                yield f"{bag}: {manifest}: {told.stdout}{told.stderr}"
        # What no manifest names, sha256sum does not see.
        lines = (bag / "manifest-sha256.txt").read_text().splitlines()
        if len(lines) != sum(1 for file in (bag / "data").rglob("*") if not file.is_dir()):
            yield f"{bag}: other files than its manifest names"


def _size_bytes(bag: Path) -> int:
    return sum(file.stat().st_size for file in bag.rglob("*") if file.is_file())


def _wrong_copies(
    originals: list[Original], archived: list[Archived], claims: list[_Claim]
) -> Iterator[str]:
    wanted = {(one.serial, one.sha256) for one in originals if one.size_bytes}
    bags: dict[tuple[str, str], list[Archived]] = defaultdict(list)
    for file in archived:
        bags[file.serial, file.sha256].append(file)
    yield from not_archived(originals, bags.keys())
    for key, files in bags.items():
        if len(files) > 1:
            yield f"{key}: archived {len(files)} times: {[str(one.bag) for one in files]}"
        if key not in wanted:
            yield f"{key}: on no recorder: {files[0].bag}"
    names = _names(claims)
    for key, files in bags.items():
        for file in files:
            names |= {(*key, name) for name in file.names}
    told = {(one.serial, one.sha256 if one.size_bytes else "", one.path) for one in originals}
    yield from (f"{one}: its name stands nowhere" for one in sorted(told - names))
    yield from (f"{one}: a name of no recorder" for one in sorted(names - told))


def _names(claims: Iterable[_Claim]) -> set[tuple[str, str, bytes]]:
    """Return serial, digest and path of what is called known; of empty files, without digest."""
    names = set()
    for claim in claims:
        serial = claim.content["recorder"]["serial"]
        names |= {(serial, one["sha256"], _path(one)) for one in claim.content.get("known", ())}
        names |= {
            (serial, "", _path(one))
            for one in claim.content.get("not_taken", ())
            if one["code"] == "F-INV-006"
        }
    return names


def _path(file: dict[str, Any]) -> bytes:
    name = file["name"]
    return b64decode(name["raw_path"]) if name.get("raw_path") else str(name["path"]).encode()


def _claims(journal: Path) -> Iterator[_Claim]:
    query = "SELECT sequence, state, envelope, receipt FROM manifest ORDER BY sequence"
    for sequence, state, envelope, receipt in _rows(journal, query):
        payload = b64decode(loads(envelope)["payload"])
        yield _Claim(
            sequence=sequence,
            state=state,
            payload=payload,
            content=loads(payload),
            receipt=None if receipt is None else loads(b64decode(loads(receipt)["payload"])),
            envelopes=(envelope,) if receipt is None else (envelope, receipt),
        )


def _broken_chain(claims: Iterable[_Claim]) -> Iterator[str]:
    before = _NO_PREDECESSOR
    for number, claim in enumerate(claims, start=1):
        if (claim.sequence, claim.content["sequence"]) != (number, number):
            yield f"manifest {claim.sequence} stands at {number}"
        if claim.content["previous_sha256"] != before:
            yield f"manifest {number} does not name the one before"
        before = hashlib.sha256(claim.payload).hexdigest()


def _bad_signatures(claims: Iterable[_Claim], places: Places) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as work:
        keys: list[Path] = []
        for certificate in (places.dock_certificate, places.archive_certificate):
            key = Path(work) / f"{len(keys)}.pem"
            command = ["openssl", "x509", "-in", str(certificate), "-noout", "-pubkey"]
            key.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
            keys.append(key)
        for claim in claims:
            for envelope, key in zip(claim.envelopes, keys, strict=False):
                if not _is_signed(loads(envelope), key, Path(work)):
                    yield f"manifest {claim.sequence}: a signature of {key.name} does not hold"


def _is_signed(envelope: dict[str, Any], key: Path, work: Path) -> bool:
    kind, payload = envelope["payloadType"].encode(), b64decode(envelope["payload"])
    signed, signature = work / "signed", work / "signature"
    signed.write_bytes(b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload))
    signature.write_bytes(b64decode(envelope["signatures"][0]["sig"]))
    command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", str(key)]
    files = ["-in", str(signed), "-sigfile", str(signature)]
    return not subprocess.run([*command, *files], capture_output=True, check=False).returncode


def _unreceipted(claims: list[_Claim], catalogue: Path) -> Iterator[str]:
    query = "SELECT sequence, state, payload_sha256, receipt FROM manifests ORDER BY sequence"
    entries = {row[0]: row[1:] for row in _rows(catalogue, query)}
    if entries.keys() != {claim.sequence for claim in claims}:
        yield f"the archive has {len(entries)} manifests, the dock {len(claims)}"
    receipts = defaultdict(list)
    for claim in claims:
        digest = hashlib.sha256(claim.payload).hexdigest()
        receipt = claim.receipt or {}
        receipts[receipt.get("receipt_id")].append(claim.sequence)
        if claim.state != "receipted" or receipt.get("payload_sha256") != digest:
            yield f"manifest {claim.sequence}: {claim.state}, with no receipt that names it"
        state, kept_sha256, kept_receipt = entries.get(claim.sequence, (None, None, None))
        if state != "archived" or kept_sha256 != digest:
            yield f"manifest {claim.sequence}: {state} in the archive, as {kept_sha256}"
        elif loads(b64decode(loads(kept_receipt)["payload"])) != claim.receipt:
            yield f"manifest {claim.sequence}: the archive keeps another receipt"
    yield from (f"one receipt for {many}" for many in receipts.values() if len(many) > 1)


def _problems_told(places: Places) -> Iterator[str]:
    for code, detail in _rows(places.journal, "SELECT code, detail FROM unhandled_message"):
        yield f"the dock could not handle a message: {code} {detail}"
    for code, detail in _rows(places.catalogue, "SELECT code, detail FROM refused_messages"):
        yield f"the archive refused a message: {code} {detail}"
    alerts = [loads(payload) for (payload,) in _rows(places.journal, "SELECT payload FROM alert")]
    told = {(alert["code"], alert["text"]) for alert in alerts}
    told |= set(_rows(places.catalogue, "SELECT code, text FROM alerts"))
    yield from (f"alert {code}: {text}" for code, text in sorted(told) if code in OUR_FAULTS)
