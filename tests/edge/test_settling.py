import dataclasses
from collections.abc import Iterable
from datetime import timedelta

from edge_agent.ingest.files import FileId, FileKey, FileRow, FileState
from edge_agent.ingest.grouping import group_clips
from edge_agent.ingest.inventory import FoundClip, FoundFile, found_file
from edge_agent.manifest.settling import ClaimedFile, Seen, Settlement, settle
from protocol.digest import Digests, sha256_hex
from protocol.findings import FindingCode
from protocol.identifiers import ManifestId
from protocol.manifest import EvidenceLevel, IncompleteReason
from tests.simulators.docking_site import MORNING, clip_path, load_profile, mtime_ns
from tests.simulators.sealed_manifests import docking_id, uuid7

A8 = load_profile("dsj-a8")
THIS, EARLIER = docking_id(2), docking_id(1)
MANIFEST = ManifestId(uuid7(1, 1))
LOG = b"LOG/20261121.LOG"
ONE, TWO = (clip_path(MORNING + timedelta(seconds=12 * n), n + 1) for n in range(2))
MARKED = clip_path(MORNING, 1, mark="IMP")


def row(path: bytes, state: FileState = FileState.STAGED, *, content: bytes = b"") -> FileRow:
    """Return a row; its content is its path's unless *content* says which."""
    written = MORNING + timedelta(seconds=24 if path == TWO else 12)
    claimed = state not in {FileState.COPYING, FileState.STAGED}
    return FileRow(
        file_id=FileId(path.decode()),
        key=FileKey(path=path, size_bytes=5, mtime_ns=mtime_ns(written)),
        docking_id=THIS,
        state=state,
        digests=None if state is FileState.COPYING else Digests(sha256=sha256_hex(content or path)),
        evidence=EvidenceLevel.L2,
        marked=b"IMP" in path,
        manifest_id=MANIFEST if claimed else None,
    )


def same(path: bytes, as_row: FileRow) -> FileRow:
    return dataclasses.replace(
        row(path),
        digests=as_row.digests,
        state=as_row.state,
        same_as=as_row.file_id,
        manifest_id=as_row.manifest_id,
    )


def settled(
    *rows: FileRow, reasons: dict[FileKey, IncompleteReason] | None = None, gone: bool = False
) -> Settlement:
    files = [found_file(one.key, A8) for one in rows]
    seen = Seen(
        docking_id=THIS,
        groups=group_clips([one for one in files if isinstance(one, FoundClip)], A8),
        others=tuple(one for one in files if isinstance(one, FoundFile)),
        listed=frozenset() if gone else frozenset(one.key for one in rows),
        rows={one.key: one for one in rows},
        reasons=reasons or {},
        default_reason=IncompleteReason.RECORDER_LEFT,
    )
    return settle(seen)


def paths(files: Iterable[ClaimedFile]) -> list[bytes]:
    return [file.row.key.path for file in files]


def recordings(found: Settlement) -> list[list[bytes]]:
    return [paths(clip.file for clip in one.clips) for one in found.recordings]


def test_what_is_staged_is_claimed() -> None:
    """Clips that follow each other become one recording, a log another file."""
    found = settled(row(ONE), row(TWO), row(LOG))

    assert recordings(found) == [[ONE, TWO]]
    assert paths(found.others) == [LOG]
    assert not found.incomplete


def test_a_recording_that_lacks_a_clip_is_held() -> None:
    """As long as one clip is missing, none is claimed; both are listed, each with its reason."""
    found = settled(row(ONE), row(TWO, FileState.COPYING), row(LOG))

    assert not found.recordings
    assert paths(found.others) == [LOG]
    assert {(one.name.path.encode(), one.reason, one.taken_bytes) for one in found.incomplete} == {
        (ONE, IncompleteReason.HELD, 5),
        (TWO, IncompleteReason.RECORDER_LEFT, 0),
    }
    assert [one.code for one in found.findings] == [FindingCode.RECORDING_INCOMPLETE]


def test_a_recording_of_which_nothing_was_read_is_no_finding() -> None:
    """That its only clip is missing is said by the clip itself."""
    found = settled(row(ONE, FileState.COPYING))

    assert not found.findings
    assert len(found.incomplete) == 1


def test_a_log_with_a_clips_content_is_an_alias() -> None:
    """A content is claimed once, as the clip that it is, with the log's name beside it."""
    clip = row(ONE)

    found = settled(clip, same(LOG, clip))

    assert recordings(found) == [[ONE]]
    assert not found.others
    assert paths(ClaimedFile(row=one) for one in found.recordings[0].clips[0].file.also) == [LOG]
    assert [one.code for one in found.findings] == [FindingCode.SAME_CONTENT]


def test_a_clip_with_a_logs_content_is_the_clip() -> None:
    """Whichever was staged first, the content is claimed as a clip."""
    log = row(LOG)

    found = settled(same(ONE, log), log)

    assert recordings(found) == [[ONE]]
    assert not found.others


def test_a_content_in_two_recordings_is_claimed_once() -> None:
    """Of two recordings with one content, the older one has it."""
    first = row(ONE)
    later = clip_path(MORNING + timedelta(hours=1), 9)

    found = settled(first, same(later, first))

    assert recordings(found) == [[ONE]]


def test_a_held_content_with_another_name_is_claimed_by_it() -> None:
    """A held clip whose content also stands under a free name is not held any more."""
    first = row(ONE)

    found = settled(first, row(TWO, FileState.COPYING), same(LOG, first))

    assert paths(found.others) == [LOG]
    assert {one.reason for one in found.incomplete} == {IncompleteReason.RECORDER_LEFT}


def test_the_marked_copy_gives_the_name() -> None:
    """Of a clip and its equal marked copy, the marked one is claimed, the other listed beside."""
    plain = row(ONE)

    found = settled(plain, same(MARKED, plain), row(TWO))

    assert recordings(found) == [[MARKED, TWO]]


def test_a_marked_copy_that_differs_is_not_in_the_chain() -> None:
    """The unmarked clip stays in its place; the other content is a recording of its own."""
    found = settled(row(ONE), row(MARKED), row(TWO))

    assert recordings(found) == [[ONE, TWO], [MARKED]]


def test_what_was_claimed_before_is_known() -> None:
    """A claimed clip is listed with its manifest; the new one beside it is claimed."""
    found = settled(row(ONE, FileState.FREED), row(TWO))

    assert recordings(found) == [[TWO]]
    assert [(one.name.path.encode(), one.manifest_id) for one in found.known] == [(ONE, MANIFEST)]


def test_what_is_gone_from_the_recorder_is_not_listed_as_known() -> None:
    """Known is what is still on the recorder."""
    assert not settled(row(ONE, FileState.CLAIMED), gone=True).known


def test_a_clip_is_given_up_at_the_second_docking() -> None:
    """What was begun at an earlier docking and is unreadable again holds up nobody."""
    bad = dataclasses.replace(row(ONE, FileState.COPYING), docking_id=EARLIER)
    reasons = {bad.key: IncompleteReason.UNREADABLE}

    found = settled(bad, row(TWO), reasons=reasons)

    assert recordings(found) == [[TWO]]
    assert [one.complete for one in found.recordings] == [False]
    assert [one.code for one in found.findings] == [FindingCode.RECORDING_INCOMPLETE]
    assert not settled(bad, row(TWO)).recordings


def test_a_clip_is_not_given_up_at_the_first_docking() -> None:
    """What could not be read once may be readable the next time."""
    bad = row(ONE, FileState.COPYING)

    found = settled(bad, row(TWO), reasons={bad.key: IncompleteReason.UNREADABLE})

    assert not found.recordings
