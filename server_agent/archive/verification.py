"""Whether a bag is what it was: every file there, nothing else, every digest right.

What this module is given was read from a bag that anybody may have changed. A path that a
manifest names is only ever looked up among the files that were found, never opened. Who vouches
for the bag is in provenance.py.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

from protocol.digest import Digests
from protocol.envelope import MAX_ENVELOPE_BYTES
from protocol.findings import MAX_DETAIL_CHARACTERS, Finding, FindingCode
from server_agent.archive.bag import (
    CONTENTS,
    DATA,
    DECLARATION,
    DECLARATION_TEXT,
    ENVELOPE,
    INFORMATION,
    MANIFEST_SHA256,
    MANIFEST_SM3,
    PAYLOAD,
    REQUIRED_TAGS,
    TAG_MANIFEST,
    is_bag_path,
    read_bag_info,
)
from server_agent.archive.contents import MAX_CONTENTS_BYTES

_MEBIBYTE: Final = 1024 * 1024
# The tag files that mean something to us, and how large each can be; larger ones are not read.
# 2,000 files and their longest names make a manifest of 0.5 MiB.
MAX_TAG_BYTES: Final[Mapping[str, int]] = {
    **dict.fromkeys(REQUIRED_TAGS, _MEBIBYTE),
    **dict.fromkeys((MANIFEST_SHA256, MANIFEST_SM3), 4 * _MEBIBYTE),
    **dict.fromkeys((ENVELOPE, PAYLOAD), MAX_ENVELOPE_BYTES),
    CONTENTS: MAX_CONTENTS_BYTES,
}
MAX_OTHER_TAG_BYTES: Final = 64 * _MEBIBYTE

_LINE: Final = re.compile(r"([0-9a-f]{64})  ([^\x00-\x1f\x7f]+)")
_SHOWN_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What stands in a bag's folder; paths are relative to it, "/" between components.

    Attributes:
        sizes_bytes: Every regular file.
        irregular: Whatever is neither file nor folder, and what it is: "a link", say.
        cut_short: Whether there was more than anybody would look through.
    """

    sizes_bytes: Mapping[str, int]
    irregular: Mapping[str, str]
    cut_short: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """Why a file that is there was not read to its end, as the finding that it makes."""

    code: FindingCode
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """The tag files as they were read.

    Attributes:
        digests_sha256: Of each file outside data/ that was read.
        content: Of those that mean something to us.
        unread: Those that were not read, and why.
    """

    digests_sha256: Mapping[str, str]
    content: Mapping[str, bytes]
    unread: Mapping[str, Unread]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What the bag's own manifests say, with what is wrong with them."""

    sha256: Mapping[str, str]
    sm3: Mapping[str, str] | None
    tags_sha256: Mapping[str, str]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BagReport:
    """The verdict on one bag.

    Attributes:
        path: Where it was found, as text.
        findings: Empty if nothing speaks against it.
        files: How many payload files have the right digest, and how many bytes they are.
        tagmanifest_sha256: The digest of the tag manifest, as in the receipt; None if it is not
            there. A bag that was swapped for another good bag differs here.
        manifest_id: From the dock's manifest, as far as it could be read; likewise the next two.
        recording_id: None in the bag of a docking's other files.
        anchored: Whether the certificates were held against an authority from outside the bag.
        from_disk: Whether every byte provably came from the disk, not from memory.
        is_bag: False for something that stands in the archive and is no bag.
    """

    path: str
    findings: tuple[Finding, ...]
    files: int = 0
    size_bytes: int = 0
    tagmanifest_sha256: str | None = None
    manifest_id: str | None = None
    recording_id: str | None = None
    dock: str | None = None
    anchored: bool = False
    from_disk: bool = False
    is_bag: bool = True

    @property
    def ok(self) -> bool:
        """Whether nothing was found against it."""
        return not self.findings


@unique
class Verdict(Enum):
    """What a verification came to."""

    VERIFIED = "verified"
    FAILED = "failed"
    NOTHING_FOUND = "nothing_found"


@dataclass(slots=True, kw_only=True)
class Tally:
    """The sum of many reports."""

    bags: int = 0
    bad_bags: int = 0
    files: int = 0
    size_bytes: int = 0
    findings: int = 0
    anchored: bool = True
    from_disk: bool = True
    strays: int = 0

    def add(self, report: BagReport) -> None:
        """Count one more report."""
        self.findings += len(report.findings)
        if not report.is_bag:
            self.strays += 1
            return
        self.bags += 1
        self.bad_bags += not report.ok
        self.files += report.files
        self.size_bytes += report.size_bytes
        self.anchored = self.anchored and report.anchored
        self.from_disk = self.from_disk and report.from_disk

    @property
    def verdict(self) -> Verdict:
        """NOTHING_FOUND is no success: whoever asked expected a bag."""
        if self.findings:
            return Verdict.FAILED
        return Verdict.VERIFIED if self.bags else Verdict.NOTHING_FOUND


def finding(code: FindingCode, path: str, detail: str = "") -> Finding:
    """Return a finding about an untrusted *path*, shown so that it can harm no terminal."""
    shown = "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in path
    )
    return Finding(
        code=code, path=shown[:_SHOWN_CHARACTERS] or None, detail=detail[:MAX_DETAIL_CHARACTERS]
    )


def read_claims(tags: Tags) -> Claims:
    """Return what the bag's manifests say, and what is malformed in them."""
    found: list[Finding] = []
    sha256 = _read_manifest(tags, MANIFEST_SHA256, found)
    sm3 = _read_manifest(tags, MANIFEST_SM3, found) if MANIFEST_SM3 in tags.content else None
    tags_sha256 = _read_manifest(tags, TAG_MANIFEST, found)
    if sm3 is not None and sm3.keys() != sha256.keys():
        found.append(
            finding(FindingCode.BAG_TAG_MALFORMED, MANIFEST_SM3, "lists other files than SHA-256's")
        )
    if DECLARATION in tags.content and tags.content[DECLARATION] != DECLARATION_TEXT:
        found.append(finding(FindingCode.BAG_TAG_MALFORMED, DECLARATION, "not BagIt 1.0 in UTF-8"))
    if INFORMATION in tags.content and read_bag_info(tags.content[INFORMATION]) is None:
        found.append(finding(FindingCode.BAG_TAG_MALFORMED, INFORMATION, "not label: value lines"))
    return Claims(sha256=sha256, sm3=sm3, tags_sha256=tags_sha256, findings=tuple(found))


def judge_files(
    claims: Claims, found: Found, tags: Tags, payload: Mapping[str, Digests | Unread]
) -> tuple[Finding, ...]:
    """Return what is missing, changed, too much or out of place in a bag.

    Args:
        claims: From `read_claims`, whose own findings are not repeated.
        found: All that stands in the bag's folder.
        tags: Its tag files.
        payload: What each listed and found payload file hashes to.
    """
    return (
        *_out_of_place(found),
        *_missing(claims, found),
        *_extra(claims, found),
        *_changed_payload(claims, payload),
        *_changed_tags(claims, tags),
    )


def _read_manifest(tags: Tags, name: str, found: list[Finding]) -> dict[str, str]:
    try:
        text = tags.content.get(name, b"").decode()
    except UnicodeDecodeError:
        found.append(finding(FindingCode.BAG_TAG_MALFORMED, name, "not UTF-8"))
        return {}
    if text and not text.endswith("\n"):
        found.append(finding(FindingCode.BAG_TAG_MALFORMED, name, "its last line is cut"))
    digests: dict[str, str] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), start=1):
        match = _LINE.fullmatch(line)
        if match is None or match[2] in digests:
            problem = "is no digest and path" if match is None else "names a file a second time"
            found.append(finding(FindingCode.BAG_TAG_MALFORMED, name, f"line {number} {problem}"))
            continue
        digest, path = match.groups()
        if not is_bag_path(path):
            found.append(
                finding(FindingCode.BAG_UNSAFE_PATH, path, f"{name}, line {number}: not followed")
            )
        elif not _belongs(path, name):
            found.append(
                finding(FindingCode.BAG_TAG_MALFORMED, name, f"line {number} is not for this list")
            )
        else:
            digests[path] = digest
    return digests


def _belongs(path: str, manifest: str) -> bool:
    is_payload = path.startswith(f"{DATA}/")
    return not is_payload and path != TAG_MANIFEST if manifest == TAG_MANIFEST else is_payload


def _out_of_place(found: Found) -> Iterator[Finding]:
    for path, what in sorted(found.irregular.items()):
        yield finding(FindingCode.BAG_UNSAFE_PATH, path, f"{what}: not followed")
    if found.cut_short:
        yield finding(FindingCode.BAG_FILE_EXTRA, "", "more files than a bag can have")


def _missing(claims: Claims, found: Found) -> Iterator[Finding]:
    listed = claims.sha256.keys() | (claims.sm3 or {}).keys() | claims.tags_sha256.keys()
    for path in sorted((listed | REQUIRED_TAGS) - found.sizes_bytes.keys()):
        yield finding(FindingCode.BAG_FILE_MISSING, path)


def _extra(claims: Claims, found: Found) -> Iterator[Finding]:
    listed = claims.sha256.keys() | claims.tags_sha256.keys() | {TAG_MANIFEST}
    for path in sorted(found.sizes_bytes.keys() - listed):
        yield finding(FindingCode.BAG_FILE_EXTRA, path)


def _changed_payload(claims: Claims, payload: Mapping[str, Digests | Unread]) -> Iterator[Finding]:
    for path, digests in sorted(payload.items(), key=lambda item: item[0]):
        if isinstance(digests, Unread):
            yield finding(digests.code, path, digests.detail)
            continue
        if digests.sha256 != claims.sha256.get(path, digests.sha256):
            yield finding(FindingCode.BAG_DIGEST_DIFFERS, path, f"SHA-256 is {digests.sha256}")
        if claims.sm3 is not None and digests.sm3 != claims.sm3.get(path, digests.sm3):
            yield finding(FindingCode.BAG_DIGEST_DIFFERS, path, f"SM3 is {digests.sm3}")


def _changed_tags(claims: Claims, tags: Tags) -> Iterator[Finding]:
    for path, unread in sorted(tags.unread.items()):
        yield finding(unread.code, path, unread.detail)
    for path, digest in sorted(claims.tags_sha256.items()):
        if tags.digests_sha256.get(path, digest) != digest:
            yield finding(
                FindingCode.BAG_TAG_DIFFERS, path, f"SHA-256 is {tags.digests_sha256[path]}"
            )
