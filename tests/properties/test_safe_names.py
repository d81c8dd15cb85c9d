"""What every list of safe names has in common, whatever a recorder called its files."""

import unicodedata
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.manifest import FileName, exact_path, name_of
from protocol.strict_json import encode, parse
from server_agent.archive.contents import OriginalName
from server_agent.archive.names import MAX_NAME_BYTES, is_safe_name, safe_name, safe_names

# Names near each other, so that they collide: by case, by accents, by number, by what is replaced.
PIECES = st.sampled_from(
    [
        *("A", "a", "é", "e\u0301", "ß", "SS", "İ", "i\u0307", "ı", "ſ", "K", "\u212a", "~2", "~"),
        *(".", "..", " ", "-", "_", "%", "\r\n", "*", "con", "NUL", "com1", "\u0301", "\u200b"),
        *("执法", "現場", "\u3164", "\ufe0f", "🎥", "/", "\\", ":", ".MP4", ".mp4", "x" * 170),
    ]
)
PATHS = st.one_of(
    st.lists(PIECES, min_size=1, max_size=6).map("".join), st.text(min_size=1, max_size=40)
)
NAMES = st.lists(PATHS.map(lambda path: FileName(path=path)), max_size=12)
FORBIDDEN = frozenset('<>:"/\\|?*%')
DEVICES = {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(10))}


def named(*paths: str) -> list[FileName]:
    return [FileName(path=path) for path in paths]


def folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


@given(names=NAMES)
def test_names_are_unique(names: Sequence[FileName]) -> None:
    """No two are equal, composed and without case, folded or in capitals."""
    safe = safe_names(names)

    assert len(safe) == len(names)
    assert len(set(map(folded, safe))) == len(safe)
    assert len({unicodedata.normalize("NFC", name.upper()) for name in safe}) == len(safe)


@given(names=NAMES)
def test_names_are_safe(names: Sequence[FileName]) -> None:
    """Each is short, composed, printable, and nothing that a file system takes for its own."""
    for name in safe_names(names):
        assert 1 <= len(name.encode()) <= MAX_NAME_BYTES
        assert unicodedata.is_normalized("NFC", name)
        assert name.isprintable()
        assert FORBIDDEN.isdisjoint(name)
        assert name[0] not in " .-~"
        assert name[-1] not in " ."
        assert name.partition(".")[0].strip().casefold() not in DEVICES
        assert is_safe_name(name)


@given(names=NAMES)
def test_safe_names_stay(names: Sequence[FileName]) -> None:
    """Names that are safe already come back unchanged, in their order."""
    safe = safe_names(names)

    assert safe_names(named(*safe)) == safe


@given(names=NAMES, more=NAMES)
def test_later_names_change_no_earlier_one(
    names: Sequence[FileName], more: Sequence[FileName]
) -> None:
    """The same names give the same result, whatever follows them."""
    assert safe_names([*names, *more])[: len(names)] == safe_names(names)


@given(
    stem=st.text("abcXYZ019执法", min_size=1, max_size=200),
    extension=st.text("mpAV4", min_size=1, max_size=8),
)
def test_extension_stays(stem: str, extension: str) -> None:
    """However long the name, its extension is kept, also under a number."""
    path = f"DCIM/100MEDIA/{stem}.{extension}"

    assert all(name.endswith(f".{extension}") for name in safe_names(named(path, path)))


@given(paths=st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=8))
def test_any_bytes_have_a_safe_name(paths: Sequence[bytes]) -> None:
    """Names that are not UTF-8 have safe names as well, each its own, also where they are equal."""
    safe = safe_names([name_of(path) for path in paths])

    assert all(map(is_safe_name, safe))
    assert len(set(map(folded, safe))) == len(paths)


@given(path=st.binary(min_size=1, max_size=300))
def test_exact_bytes_stand_in_a_bags_own_file(path: bytes) -> None:
    """Whatever a recorder called a file, its bag has the exact bytes beside the text."""
    name = name_of(path)
    original = OriginalName(path=name.path, path_bytes=exact_path(name))

    assert parse(encode(original), OriginalName, max_bytes=10_000).path_bytes == path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("DCIM/100MEDIA/x.MP4", "x.MP4"),
        ("DCIM/执法 现场_0002IMP.MP4", "执法 现场_0002IMP.MP4"),
        ("a/../../etc/passwd", "passwd"),
        ("..", "_"),
        ("a/", "_"),
        (".hidden", "_hidden"),
        ("-rf", "_rf"),
        ("CON.txt", "_CON.txt"),
        ("aux .MP4", "_aux .MP4"),
        ("conference.MP4", "conference.MP4"),
        ("100%.MP4", "100_.MP4"),
        ("a\r\nb.MP4", "a__b.MP4"),
        ("name. . ", "name"),
        ("e\u0301.MP4", "é.MP4"),
        ("\u202egpj.MP4", "_gpj.MP4"),
    ],
)
def test_each_unsafe_form(path: str, expected: str) -> None:
    """What becomes of each kind of name."""
    assert safe_name(path) == expected


def test_equal_names_are_numbered() -> None:
    """Files of equal names in different folders are told apart by a number, in their order."""
    paths = named("A/x.MP4", "B/X.mp4", "C/x.MP4", "D/x~2.MP4")

    assert safe_names(paths) == ("x.MP4", "X~2.mp4", "x~3.MP4", "x~2~2.MP4")


def test_many_equal_names() -> None:
    """A whole manifest of equal names is numbered through."""
    safe = safe_names(named("x.MP4") * 2_000)

    assert safe[-1] == "x~2000.MP4"
    assert len(set(safe)) == len(safe)
