"""The tag files of a bag, as texts: RFC 8493, and what Bayward adds under bayward/.

Digest lines are what sha256sum writes, so that ``sha256sum -c`` reads them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Final

from protocol.digest import sha256_hex
from protocol.manifest import Manifest, Recording, StagedFile
from server_agent.archive.contents import describe, encode_contents
from server_agent.archive.layout import docking_bag_name
from server_agent.archive.names import is_safe_name
from server_agent.archive.request import BagRequest

DATA: Final = "data"
BAYWARD: Final = "bayward"

DECLARATION: Final = "bagit.txt"
INFORMATION: Final = "bag-info.txt"
MANIFEST_SHA256: Final = "manifest-sha256.txt"
MANIFEST_SM3: Final = "manifest-sm3.txt"
TAG_MANIFEST: Final = "tagmanifest-sha256.txt"
ENVELOPE: Final = f"{BAYWARD}/dock-manifest.dsse.json"
PAYLOAD: Final = f"{BAYWARD}/dock-manifest.json"
SIGNATURE: Final = f"{BAYWARD}/dock-manifest.sig"
DOCK_CERTIFICATE: Final = f"{BAYWARD}/dock-signing.pem"
CA_CERTIFICATE: Final = f"{BAYWARD}/ca.pem"
CONTENTS: Final = f"{BAYWARD}/recording.json"

# What each bag has; MANIFEST_SM3 is there where the site asks for it.
REQUIRED_TAGS: Final = frozenset(
    {
        *(DECLARATION, INFORMATION, MANIFEST_SHA256, TAG_MANIFEST),
        *(ENVELOPE, PAYLOAD, SIGNATURE, DOCK_CERTIFICATE, CA_CERTIFICATE, CONTENTS),
    }
)

BAGGING_DATE: Final = "Bagging-Date"
CLOSED_AT: Final = "Bayward-Closed-At"
# All that bag-info.txt says, in its order.
LABELS: Final = (
    *("Source-Organization", BAGGING_DATE, "Payload-Oxum", "External-Identifier"),
    *("Internal-Sender-Identifier", "Bag-Software-Agent", CLOSED_AT),
    *("Bayward-Dock", "Bayward-Manifest-Sequence", "Bayward-Manifest-SHA256"),
    *("Bayward-Docking", "Bayward-Recorder", "Bayward-Officer", "Bayward-Recorded-On"),
    "Bayward-Evidence-Level",
)

DECLARATION_TEXT: Final = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bagging:
    """Who closed a bag, when: the part of bag-info.txt that no dock claims.

    Attributes:
        organisation: RFC 8493's Source-Organization: one line.
        software: Name and version of this program: one line.
        closed_at: Aware, in the archive's own time zone; its date is the Bagging-Date.
    """

    organisation: str
    software: str
    closed_at: datetime


def tag_files(request: BagRequest, bagging: Bagging) -> dict[str, bytes]:
    """Return every tag file of a bag by its path in the bag, the tag manifest included.

    Raises:
        ValueError: Our own mistake: a name below data/ is not safe, or stands twice.
    """
    names = [bag_file.safe_name for bag_file in request.files]
    if len(set(names)) != len(names) or not all(map(is_safe_name, names)):
        raise ValueError("the names below data/ are not from safe_names")
    contents = describe(request.manifest, request.recording, request.files)
    tags = {
        DECLARATION: DECLARATION_TEXT,
        INFORMATION: bag_info(request, bagging),
        MANIFEST_SHA256: digest_lines(
            (f"{DATA}/{file.safe_name}", file.file.digests.sha256) for file in request.files
        ),
        ENVELOPE: request.envelope,
        PAYLOAD: request.payload,
        SIGNATURE: request.signature,
        DOCK_CERTIFICATE: request.dock_certificate_pem,
        CA_CERTIFICATE: request.ca_pem,
        CONTENTS: encode_contents(contents),
    }
    if has_sm3(request):
        tags[MANIFEST_SM3] = digest_lines(
            (f"{DATA}/{file.safe_name}", file.file.digests.sm3 or "") for file in request.files
        )
    return tags | {TAG_MANIFEST: tag_manifest(tags)}


def has_sm3(request: BagRequest) -> bool:
    """Return whether the bag has a second manifest: only one that lists every file is allowed."""
    return all(bag_file.file.digests.sm3 is not None for bag_file in request.files)


def tag_manifest(tags: Mapping[str, bytes]) -> bytes:
    """Return tagmanifest-sha256.txt for these other tag files."""
    return digest_lines((path, sha256_hex(content)) for path, content in tags.items())


def digest_lines(digests: Iterable[tuple[str, str]]) -> bytes:
    """Return a manifest of (path in the bag, digest in hex), sorted by path."""
    return "".join(f"{digest}  {path}\n" for path, digest in sorted(digests)).encode()


def bag_name(request: BagRequest) -> str:
    """Return the name of the bag's folder in the archive."""
    if request.recording is not None:
        return request.recording.recording_id
    return docking_bag_name(request.manifest.docking_id, request.manifest.part)


def bag_info(request: BagRequest, bagging: Bagging) -> bytes:
    """Return bag-info.txt: RFC 8493's own labels, then ours.

    Raises:
        ValueError: Our own mistake: a value of *bagging* is not one line.
    """
    staged = [bag_file.file for bag_file in request.files]
    told = {
        "Source-Organization": bagging.organisation,
        BAGGING_DATE: bagging.closed_at.date().isoformat(),
        "Bag-Software-Agent": bagging.software,
        CLOSED_AT: bagging.closed_at.isoformat(timespec="seconds"),
        **derived_labels(request.manifest, request.recording, staged, request.payload),
    }
    return "".join(_line(label, told[label]) for label in LABELS if told[label]).encode()


def derived_labels(
    manifest: Manifest, recording: Recording | None, staged: Sequence[StagedFile], payload: bytes
) -> dict[str, str]:
    """Return what bag-info.txt repeats of the dock's manifest; a label with "" is left out.

    Args:
        manifest: The dock's claim.
        recording: One of its recordings; None for its other files.
        staged: The bag's files.
        payload: The manifest's exact bytes.
    """
    name = (
        recording.recording_id
        if recording is not None
        else docking_bag_name(manifest.docking_id, manifest.part)
    )
    return {
        "Payload-Oxum": f"{sum(file.size_bytes for file in staged)}.{len(staged)}",
        "External-Identifier": name,
        "Internal-Sender-Identifier": manifest.manifest_id,
        "Bayward-Dock": manifest.dock,
        "Bayward-Manifest-Sequence": str(manifest.sequence),
        "Bayward-Manifest-SHA256": sha256_hex(payload),
        "Bayward-Docking": manifest.docking_id,
        "Bayward-Recorder": manifest.recorder.recorder_id,
        "Bayward-Officer": (recording.officer if recording else None) or manifest.officer or "",
        "Bayward-Recorded-On": recording.recorded_on.isoformat() if recording else "",
        "Bayward-Evidence-Level": min(file.evidence.value for file in staged),
    }


def false_labels(
    information: Mapping[str, str], derived: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield each label of bag-info.txt that says something else than the dock, and what is wrong.

    Args:
        information: From `read_bag_info`.
        derived: From `derived_labels`.
    """
    for label, value in derived.items():
        if information.get(label, "") != value:
            yield label, f"is not {value!r}" if value else "is none of the dock's"
    ours = {label.casefold() for label in LABELS}
    for label in information.keys() - set(LABELS):
        if label.casefold().startswith("bayward-") or label.casefold() in ours:
            yield label, "is no label of ours"
    closed_at = read_closed_at(information)
    if closed_at is not None and information.get(BAGGING_DATE) != closed_at.date().isoformat():
        yield BAGGING_DATE, f"is not the date of {CLOSED_AT}"


def read_closed_at(information: Mapping[str, str]) -> datetime | None:
    """Return when the archive closed the bag, by bag-info.txt; None if that says no moment."""
    try:
        closed_at = datetime.fromisoformat(information.get(CLOSED_AT, ""))
        closed_at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return closed_at if closed_at.tzinfo is not None else None


def read_bag_info(untrusted: bytes) -> dict[str, str] | None:
    """Return bag-info.txt by its labels, each of which we write once; None if it is malformed."""
    try:
        lines = untrusted.decode().split("\n")
    except UnicodeDecodeError:
        return None
    fields: dict[str, str] = {}
    for line in lines[:-1]:
        label, colon, value = line.partition(": ")
        if not (label and colon and value) or label in fields:
            return None
        fields[label] = value
    return None if lines[-1] else fields


def is_bag_path(path: str) -> bool:
    """Return whether a manifest may name *path*: relative, and inside the bag for any reader."""
    parts = PurePosixPath(path).parts
    return (
        bool(parts)
        and "/".join(parts) == path
        and ".." not in parts
        and not path.startswith(("/", "~"))
        and path.isprintable()
        and "\\" not in path
    )


def _line(label: str, value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError(f"{label}: {value!r} is not one line")
    return f"{label}: {value}\n"
