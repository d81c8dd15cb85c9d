"""From signed manifests and receipts to what may be erased of what is on a recorder.

Whoever hands them over is not believed: the archive's signature is, and what is on the recorder.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from edge_agent.ingest.volume import EntryKind, RawEntry
from edge_agent.mounting.errors import EvidenceError, NotArchivedError
from protocol import strict_json
from protocol.digest import sha256_hex
from protocol.envelope import MAX_ENVELOPE_BYTES, open_statement, take_apart
from protocol.errors import ProtocolError
from protocol.findings import FindingCode
from protocol.identifiers import DockingId
from protocol.keys import KeyId, VerifyingKey
from protocol.manifest import Manifest, StagedFile, exact_path
from protocol.receipt import Receipt, check_receipt
from protocol.versions import Statement, payload_type


class _Content(NamedTuple):
    """Bytes that the archive holds; `is_footage` if they are a clip of a recording."""

    size_bytes: int
    archived_at: datetime
    is_footage: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A file that may be erased, once its bytes were found to be one of these contents."""

    path: bytes
    size_bytes: int
    sha256s: tuple[str, ...]
    node: tuple[int, int] | None = field(default=None, compare=False)


@dataclass(slots=True, kw_only=True)
class Proof:
    """What is proved so far about one recorder and one docking of it.

    Attributes:
        docking_id: The docking that says what is on the recorder.
        archive_keys: The keys that may sign receipts.
    """

    docking_id: DockingId
    archive_keys: Mapping[KeyId, VerifyingKey]
    _recorders: set[tuple[str, str]] = field(default_factory=set)
    _parts: dict[int, bool] = field(default_factory=dict)
    _contents: dict[str, _Content] = field(default_factory=dict)
    _named: dict[bytes, tuple[str, ...]] = field(default_factory=dict)
    _empty: set[bytes] = field(default_factory=set)

    def add(self, manifest_envelope: bytes, receipt_envelope: bytes) -> None:
        """Take a manifest and its receipt, each byte for byte as it was sent.

        The manifest's own signature is not asked for: the receipt names its exact bytes, and the
        archive has verified it.

        Raises:
            EvidenceError: The archive did not sign this receipt, or it is not this manifest's.
        """
        try:
            sealed = take_apart(manifest_envelope)
            if sealed.payload_type != payload_type(Statement.MANIFEST):
                raise EvidenceError(f"a {sealed.payload_type[:80]!r} is no manifest")
            receipt = open_statement(
                receipt_envelope, Statement.RECEIPT, Receipt, self.archive_keys
            )
            payload_sha256 = sha256_hex(sealed.payload)
            if receipt.payload_sha256 != payload_sha256:
                raise EvidenceError(f"receipt {receipt.receipt_id} is of another manifest")
            manifest = strict_json.parse(sealed.payload, Manifest, max_bytes=MAX_ENVELOPE_BYTES)
        except ProtocolError as error:
            raise EvidenceError(f"{error.code}: {error}") from error
        if findings := check_receipt(receipt, manifest, payload_sha256=payload_sha256):
            raise EvidenceError(f"{findings[0].code.value}: {findings[0].detail}")
        self._recorders.add((manifest.recorder.model, manifest.recorder.serial))
        self._add_contents(manifest, receipt.archived_at)
        if manifest.docking_id == self.docking_id:
            self._parts[manifest.part] = manifest.last_part
            self._add_names(manifest)

    def close(self) -> str:
        """Return the recorder's model, when everything was added.

        Raises:
            EvidenceError: There is not all that it takes.
        """
        if len(self._recorders) != 1:
            raise EvidenceError(f"manifests of {len(self._recorders)} recorders")
        parts = sorted(self._parts)
        if parts != list(range(1, len(parts) + 1)) or not self._parts.get(len(parts)):
            raise EvidenceError(f"of docking {self.docking_id} there are the parts {parts}")
        for sha256s in self._named.values():
            for sha256 in sha256s:
                if sha256 not in self._contents:
                    raise EvidenceError(f"no receipt is about the content {sha256}")
        return next(iter(self._recorders))[0]

    def is_any_due(self, archived_before: datetime) -> bool:
        """Return whether any file of the docking may be erased; see `due`."""
        return any(self._is_due(sha256s, archived_before) for sha256s in self._named.values())

    def due(self, listing: Iterable[RawEntry], archived_before: datetime) -> tuple[Due, ...]:
        """Return what may be erased of what is on the recorder now, in order of path.

        That is footage whose receipts were all given until *archived_before*. What is no clip of
        a recording stays: recorders keep their own settings in files.

        Args:
            listing: All that is there.
            archived_before: Aware; by the archive's clock.

        Raises:
            NotArchivedError: There is something else than the docking found, or something less.
        """
        found: list[Due] = []
        missing = set(self._named)
        nodes: set[tuple[int, int]] = set()
        folded: set[str] = set()
        for entry in listing:
            if entry.kind is EntryKind.DIRECTORY:
                continue
            sha256s = self._contents_of(entry)
            # Taken away by its name, a name that leads elsewhere would take another file with it.
            name = entry.path.decode(errors="surrogateescape").casefold()
            if entry.node in nodes or name in folded:
                raise NotArchivedError(f"{entry.path!r} may be another file's name as well")
            folded.add(name)
            if entry.node is not None:
                nodes.add(entry.node)
            missing.discard(entry.path)
            if sha256s and self._is_due(sha256s, archived_before):
                size_bytes, node = entry.size_bytes, entry.node
                found.append(
                    Due(path=entry.path, size_bytes=size_bytes, sha256s=sha256s, node=node)
                )
        if missing:
            text = f"{len(missing)} files are gone that were there when it was docked"
            raise NotArchivedError(text)
        return tuple(sorted(found, key=lambda one: one.path))

    def _contents_of(self, entry: RawEntry) -> tuple[str, ...]:
        """Return what a file may hold; nothing for one that was and is empty."""
        if entry.kind is not EntryKind.FILE:
            raise NotArchivedError(f"{entry.path!r} is no file: {entry.kind.value}")
        if entry.size_bytes == 0 and entry.path in self._empty:
            return ()
        sha256s = tuple(
            sha256
            for sha256 in self._named.get(entry.path, ())
            if self._contents[sha256].size_bytes == entry.size_bytes
        )
        if not sha256s:
            raise NotArchivedError(f"no receipt is about {entry.path!r} as it is now")
        return sha256s

    def _is_due(self, sha256s: tuple[str, ...], archived_before: datetime) -> bool:
        contents = [self._contents[sha256] for sha256 in sha256s]
        return all(one.is_footage and one.archived_at <= archived_before for one in contents)

    def _add_contents(self, manifest: Manifest, archived_at: datetime) -> None:
        for recording in manifest.recordings:
            for clip in recording.clips:
                self._add_content(clip.file, archived_at, is_footage=True)
        for file in manifest.other_files:
            self._add_content(file, archived_at, is_footage=False)

    def _add_content(self, file: StagedFile, archived_at: datetime, *, is_footage: bool) -> None:
        known = self._contents.get(file.digests.sha256)
        self._contents[file.digests.sha256] = _Content(
            size_bytes=file.size_bytes,
            archived_at=max(archived_at, known.archived_at) if known else archived_at,
            is_footage=is_footage and (known is None or known.is_footage),
        )

    def _add_names(self, manifest: Manifest) -> None:
        for file in manifest.staged_files():
            for name in (file.name, *file.also_named):
                self._add_name(exact_path(name), file.digests.sha256)
        for known in manifest.known:
            self._add_name(exact_path(known.name), known.sha256)
        # Of a file without bytes its name is all there is, and the manifest has it.
        self._empty |= {
            exact_path(one.name) for one in manifest.not_taken if one.code is FindingCode.EMPTY_FILE
        }

    def _add_name(self, path: bytes, sha256: str) -> None:
        before = self._named.get(path, ())
        if sha256 not in before:
            self._named[path] = (*before, sha256)
