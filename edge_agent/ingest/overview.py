"""What can be said of a listing only as a whole, before it is gone through in pieces."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from edge_agent.ingest.grouping import find_sequence_gaps
from edge_agent.ingest.inventory import MAX_PATH_BYTES, FoundClip, find_refusal, found_file
from edge_agent.ingest.listing import Listing, PackedEntries, key_of
from edge_agent.ingest.profile import Profile
from edge_agent.ingest.volume import EntryKind, RawEntry
from protocol.findings import Finding, FindingCode
from protocol.manifest import name_of

# After these a recorder was read to its end, but not all that is on it is known.
TO_BE_SEEN: Final = frozenset(
    {
        FindingCode.PATH_TOO_LONG,
        FindingCode.TOO_MANY_ENTRIES,
        FindingCode.UNREADABLE_DIRECTORY,
        FindingCode.UNREADABLE_FILE,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A listing as a whole.

    Attributes:
        is_whole: Whether it shows all that is on the recorder.
        findings: About more than one entry at a time.
    """

    is_whole: bool
    findings: tuple[Finding, ...]


def look_over(listing: Listing, profile: Profile) -> Overview:
    """Return what a listing says as a whole.

    Args:
        listing: Untrusted.
        profile: Of the recorder's model.
    """
    taken: list[int] = []
    refusals: set[FindingCode] = set()
    for index, entry in enumerate(listing.entries):
        if entry.kind is EntryKind.DIRECTORY:
            continue
        refusal = find_refusal(entry, known_name=profile.read_name(entry.path) is not None)
        if refusal is None:
            taken.append(index)
        else:
            refusals.add(refusal.code)
    files = PackedEntries(listing.entries[index] for index in taken)
    about_all = (*_beyond(listing), *_repeated(listing), *_hidden(listing))
    said = refusals | {finding.code for finding in about_all}
    return Overview(
        is_whole=TO_BE_SEEN.isdisjoint(said),
        findings=(
            *about_all,
            *_case_collisions(files),
            *find_sequence_gaps(_clips(files, profile)),
        ),
    )


def _clips(files: Iterable[RawEntry], profile: Profile) -> Iterator[FoundClip]:
    for entry in files:
        found = found_file(key_of(entry), profile)
        if isinstance(found, FoundClip):
            yield found


def _beyond(listing: Listing) -> list[Finding]:
    if not listing.beyond:
        return []
    kept, beyond = len(listing.entries), listing.beyond
    detail = f"{kept} entries were listed, at least {beyond} more were not: this is not all"
    return [Finding(code=FindingCode.TOO_MANY_ENTRIES, detail=detail)]


def _repeated(listing: Listing) -> Iterator[Finding]:
    again = {entry.path: entry for entry in listing.repeated}
    if not again:
        return
    first = {entry.path: entry for entry in listing.entries if entry.path in again}
    for path, entry in again.items():
        differs = "" if entry == first[path] else ", and the two differ"
        detail = f"stands more than once in its folder{differs}; read as it stands first"
        yield Finding(
            code=FindingCode.UNREADABLE_DIRECTORY,
            path=name_of(path[:MAX_PATH_BYTES]).path,
            detail=detail,
        )


def _hidden(listing: Listing) -> Iterator[Finding]:
    for paths in listing.same:
        detail = f"one of {len(paths)} names that lead to the same: it hides another, or is hidden"
        for path in paths:
            yield Finding(
                code=FindingCode.UNREADABLE_DIRECTORY,
                path=name_of(path[:MAX_PATH_BYTES]).path,
                detail=detail,
            )


def _case_collisions(files: Iterable[RawEntry]) -> Iterator[Finding]:
    # Hashes first: there are as many names as files, and hardly ever two of one.
    counted = Counter(hash(_folded(entry)) for entry in files)
    suspects = {folded for folded, count in counted.items() if count > 1}
    if not suspects:
        return
    same: dict[str, list[bytes]] = {}
    for entry in files:
        folded = _folded(entry)
        if hash(folded) in suspects:
            same.setdefault(folded, []).append(entry.path)
    for paths in same.values():
        if len(paths) > 1:
            for path in paths:
                detail = f"one of {len(paths)} names that differ by case alone"
                yield Finding(
                    code=FindingCode.NAMES_DIFFER_BY_CASE, path=name_of(path).path, detail=detail
                )


def _folded(entry: RawEntry) -> str:
    return name_of(entry.path).path.casefold()
