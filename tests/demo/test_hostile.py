import hashlib
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from demo.hostile import (
    LEVELS,
    SPARSE_BYTES,
    HostileVolume,
    Treatment,
    build_hostile_volume,
)
from protocol.findings import FindingCode
from tests.demo.profile_rules import detects, matched, profile


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> HostileVolume:
    return build_hostile_volume(tmp_path_factory.mktemp("hostile") / "volume", many_files=2_050)


def leaves(folder: Path) -> set[bytes]:
    root = os.fsencode(folder)
    found = set()
    for parent, folders, files in os.walk(root):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]  # noqa: PTH114, PTH118 - bytes
        found |= {os.path.relpath(os.path.join(parent, name), root) for name in (*files, *links)}  # noqa: PTH118 - bytes
    return found


def facts(hostile: HostileVolume, path: bytes) -> os.stat_result:
    return (hostile.folder / os.fsdecode(path)).lstat()


def found_as(hostile: HostileVolume, finding: FindingCode) -> list[os.stat_result]:
    return [facts(hostile, entry.path) for entry in hostile.made if entry.finding is finding]


def test_the_description_names_every_entry(hostile: HostileVolume) -> None:
    """The volume holds the good clip, the described entries, the many files, and no more."""
    many = {path for path in leaves(hostile.folder) if path.startswith(b"MANY/")}
    others = leaves(hostile.folder) - many

    assert others == {entry.path for entry in hostile.made} | {hostile.good_clip.encode()}
    assert len(many) == hostile.many_files == 2_050


def test_what_was_left_out_has_a_reason(hostile: HostileVolume) -> None:
    """An entry is either made or skipped with a reason; only the device needs root."""
    made = {entry.path for entry in hostile.made}
    skipped = {entry.path: entry.reason for entry in hostile.skipped}

    assert not made & skipped.keys()
    assert all(skipped.values())
    assert (b"ODD/null" in made) != (b"ODD/null" in skipped)


def test_the_good_clip_is_as_described(hostile: HostileVolume) -> None:
    """The good clip has the digest in the description and makes the volume a DSJ-A8's."""
    content = (hostile.folder / hostile.good_clip).read_bytes()
    rules = profile("dsj-a8")
    found = matched(rules, hostile.good_clip)

    assert hashlib.sha256(content).digest() == hostile.good_clip_sha256
    assert detects(rules, hostile.good_clip)
    assert found is not None
    assert (hostile.serial, hostile.officer) == (found[1]["serial"], found[1]["officer"])


def test_clips_match_the_profile_and_others_do_not(hostile: HostileVolume) -> None:
    """What must be copied as a clip has a clip's name; what need not be, has not."""
    rules = profile("dsj-a8")

    for path in hostile.entries(Treatment.COPY):
        assert matched(rules, os.fsdecode(path)) is not None
    for path in hostile.entries(Treatment.COPY_OR_REPORT):
        assert matched(rules, os.fsdecode(path)) is None


def test_only_regular_files_may_be_opened(hostile: HostileVolume) -> None:
    """What must never be opened is no regular file, and everything else is one."""
    never = hostile.entries(Treatment.NEVER_OPEN)

    for entry in hostile.made:
        mode = facts(hostile, entry.path).st_mode
        assert stat.S_ISREG(mode) == (entry.path not in never)


def test_there_are_links_of_every_kind(hostile: HostileVolume) -> None:
    """Links lead out of the volume, to themselves, in a circle, upwards and nowhere."""
    links = {
        os.fsencode((hostile.folder / os.fsdecode(entry.path)).readlink())
        for entry in hostile.made
        if entry.finding is FindingCode.LINK
    }

    assert {b"/etc/passwd", b"self", b"loop-a", b"loop-b", b"..", b"missing"} == links
    assert all(stat.S_ISLNK(f.st_mode) for f in found_as(hostile, FindingCode.LINK))


def test_there_are_special_files(hostile: HostileVolume) -> None:
    """A pipe and a socket are there."""
    kinds = {stat.S_IFMT(f.st_mode) for f in found_as(hostile, FindingCode.SPECIAL_FILE)}

    assert {stat.S_IFIFO, stat.S_IFSOCK} <= kinds
    assert kinds <= {stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR}


def test_there_are_names_of_the_greatest_length(hostile: HostileVolume) -> None:
    """Two names have 255 bytes, a path more than 300, a folder 200 above it."""
    paths = [entry.path for entry in hostile.made]
    longest = [max(map(len, path.split(b"/"))) for path in paths]

    assert longest.count(255) >= 2
    assert any(len(path) > 300 and path.startswith(b"LONG/") for path in paths)
    assert max(path.count(b"/") for path in paths) == LEVELS == 200


def test_a_name_is_not_utf8(hostile: HostileVolume) -> None:
    """Each path said to be no UTF-8 is none, and all others are."""
    for entry in hostile.made:
        try:
            entry.path.decode()
        except UnicodeDecodeError:
            assert entry.finding is FindingCode.NAME_NOT_UTF8
        else:
            assert entry.finding is not FindingCode.NAME_NOT_UTF8
    assert found_as(hostile, FindingCode.NAME_NOT_UTF8)


def test_two_names_differ_only_by_case(hostile: HostileVolume) -> None:
    """Two different files have one name if case is ignored."""
    paths = [e.path for e in hostile.made if e.finding is FindingCode.NAMES_DIFFER_BY_CASE]
    one, other = ((hostile.folder / os.fsdecode(path)).read_bytes() for path in paths)

    assert len({path.lower() for path in paths}) == 1
    assert one != other


def test_times_reach_from_1980_to_2107(hostile: HostileVolume) -> None:
    """The implausible times are in the first and the last year that FAT knows."""
    years = {
        datetime.fromtimestamp(f.st_mtime, UTC).year
        for f in found_as(hostile, FindingCode.IMPLAUSIBLE_TIME)
    }

    assert years == {1980, 2107}


def test_the_sparse_clip_takes_no_room(hostile: HostileVolume) -> None:
    """One clip has 5 GiB and hardly a block."""
    [sparse] = [
        f for f in (facts(hostile, e.path) for e in hostile.made) if f.st_size == SPARSE_BYTES
    ]

    assert sparse.st_size == 5 * 2**30
    assert sparse.st_blocks * 512 < 2**20


def test_one_clip_is_empty(hostile: HostileVolume) -> None:
    """The clip that is said to be empty is."""
    assert [f.st_size for f in found_as(hostile, FindingCode.EMPTY_FILE)] == [0]


@pytest.mark.parametrize(
    "word",
    [
        *(b"\n", b"\x1b", b"; rm -rf", b"<script>", b"/+/", b"/#", b"CON.", b"dot.", b"space "),
        *(b"DROP TABLE", b"$(reboot)", b"{{7*7}}", b"=cmd|", b"%2e%2e", b"bayward/v1/docks/"),
    ],
)
def test_names_carry_words_of_others_languages(hostile: HostileVolume, word: bytes) -> None:
    """Shells, browsers, databases, topics, Windows and others each find a word of theirs."""
    assert any(word in entry.path for entry in hostile.made)


def test_no_two_files_have_the_same_content(hostile: HostileVolume) -> None:
    """No file is another's alias, so that a lost one cannot hide behind its twin."""
    regular = [path for path in hostile.folder.rglob("*") if stat.S_ISREG(path.lstat().st_mode)]
    small = [path for path in regular if 0 < path.lstat().st_size < SPARSE_BYTES]

    assert len({path.read_bytes() for path in small}) == len(small) > 2_050


def test_a_used_folder_is_refused(tmp_path: Path) -> None:
    """Nothing is built among files that are already there."""
    (tmp_path / "thesis.txt").touch()

    with pytest.raises(FileExistsError):
        build_hostile_volume(tmp_path)

    assert [tmp_path / "thesis.txt"] == list(tmp_path.iterdir())
