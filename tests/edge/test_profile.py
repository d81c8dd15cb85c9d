import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ProfileError
from edge_agent.ingest.profile import (
    MAX_MATCHED_CHARACTERS,
    KeyValueIdentity,
    RuleKind,
    parse_profile,
)
from protocol.manifest import ClipKind
from tests.simulators.docking_site import PROFILES, load_profile, recorder_time

A8 = (Path(__file__).parents[2] / "profiles/dsj-a8.toml").read_text("utf-8")


def test_a_name_says_what_it_says() -> None:
    """Officer, recorder, start, number and mark are read off a clip's name."""
    facts = load_profile("dsj-a8").read_name(
        b"DCIM/100MEDIA/012345_0000017_20261121083012_0007IMP.MP4"
    )

    assert facts is not None
    assert facts.clip is ClipKind.VIDEO
    assert (facts.groups["officer"], facts.groups["serial"]) == ("012345", "0000017")
    assert (facts.started, facts.sequence, facts.marked) == (
        recorder_time(2026, 11, 21, 8, 30, 12),
        7,
        True,
    )


def test_a_log_is_no_clip() -> None:
    """A file that the profile knows as a log is known, and is no clip."""
    facts = load_profile("dsj-a8").read_name(b"LOG/20261121.LOG")

    assert facts is not None
    assert (facts.rule, facts.clip) == (RuleKind.LOG, None)


@pytest.mark.parametrize(
    "name",
    [
        b"DCIM/100MEDIA/012345_0000017_20261121083012_0007.MP4\n",
        b"x/DCIM/100MEDIA/012345_0000017_20261121083012_0007.MP4",
        "DCIM/100MEDIA/012345_0000017_２０261121083012_0007.MP4".encode(),
        b"DCIM/100MEDIA/012345_0000017_20261121083012_0007.MP4.exe",
    ],
)
def test_a_name_fits_whole_or_not_at_all(name: bytes) -> None:
    """Nothing before, after or instead of what the pattern asks for."""
    assert load_profile("dsj-a8").read_name(name) is None


def test_a_pattern_without_anchors_is_not_looser() -> None:
    """A profile whose pattern forgets to say so still asks for the whole name."""
    loose = parse_profile(A8.replace("^DCIM", "DCIM").replace(r"\Z", ""), source="loose.toml")
    name = b"DCIM/100MEDIA/012345_0000017_20261121083012_0007.MP4"

    assert loose.read_name(name) is not None
    assert loose.read_name(b"x/" + name) is None
    assert loose.read_name(name + b".exe") is None


def test_a_time_that_is_none_is_left_out() -> None:
    """A clip whose name says the 99th month is a clip without a start."""
    facts = load_profile("dsj-a8").read_name(
        b"DCIM/100MEDIA/012345_0000017_20269921083012_0007.MP4"
    )

    assert facts is not None
    assert facts.started is None


def test_a_long_name_is_not_matched() -> None:
    """A name longer than any recorder's does not reach the pattern."""
    long = b"a" * MAX_MATCHED_CHARACTERS + b".mp4"

    assert load_profile("generic").read_name(long[-MAX_MATCHED_CHARACTERS:]) is not None
    assert load_profile("generic").read_name(long) is None


def test_a_name_that_is_no_utf8_is_matched_as_shown() -> None:
    """A name in another encoding is a clip for a profile that takes any name."""
    facts = load_profile("generic").read_name(b"\xff\xfe\xc4\xe3.MP4")

    assert facts is not None
    assert facts.clip is ClipKind.VIDEO


@pytest.mark.parametrize(
    ("name", "paths", "fits"),
    [
        ("dsj-a8", [b"dcim/100media/1_2_3_4.mp4"], True),
        ("dsj-a8", [b"DCIM/a/b/1_2_3_4.mp4"], False),
        ("dsj-v2", [b"readme", b"System/Device.txt"], True),
        ("generic", [b"sub/RECORDER.ID"], False),
        ("generic", [], False),
    ],
)
def test_a_model_is_detected_by_its_files(name: str, paths: list[bytes], *, fits: bool) -> None:
    """One file that fits one glob is enough; case does not matter, and * is one component."""
    assert load_profile(name).fits(paths) is fits


@given(st.binary(min_size=1, max_size=300).filter(lambda path: b"\0" not in path))
def test_any_name_can_be_asked_about(path: bytes) -> None:
    """No name a volume can have makes a profile fail."""
    for profile in PROFILES:
        profile.fits([path])
        profile.read_name(path)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('name = "dsj-a8"\n', "", "$"),
        ('name = "dsj-a8"', 'name = "DSJ A8"', "$.name"),
        ("gap_s = 5", 'gap_s = "5"', "$.join.gap_s"),
        ("gap_s = 5", "gap_s = -1", "$.join.gap_s"),
        ("gap_s = 5", "gap_s = 5\ngap = 5", "$.join"),
        ('kind = "photo"', 'kind = "picture"', "$.clips[2].kind"),
        ("(?P<folder>[^/]+)", "(?P<folder>[^/]+", "$.clips[0].pattern"),
        ('from = "file_name"', 'from = "magic"', "$.identity"),
        ('serial = "serial"', 'serial = "number"', "$.identity.serial"),
        ('timezone = "Asia/Shanghai"', 'timezone = "Mars/Base"', "$.timezone"),
        ('detect = ["DCIM/*/*_*_*_*.*"]', "detect = []", "$.detect"),
        ('make = "DSJ"', "make =", "$"),
    ],
)
def test_a_wrong_profile_names_its_key(old: str, new: str, key: str) -> None:
    """Whatever is wrong in a profile, the error names the file and the key."""
    assert old in A8

    with pytest.raises(ProfileError, match=rf"^wrong\.toml: {re.escape(key)}") as caught:
        parse_profile(A8.replace(old, new), source="wrong.toml")

    assert caught.value.code == "E-ING-204"


def test_the_profiles_that_come_with_the_product_are_right() -> None:
    """Every profile under profiles/ can be read, and has the name of its file."""
    folder = Path(__file__).parents[2] / "profiles"
    names = [path.stem for path in sorted(folder.glob("*.toml"))]

    assert [load_profile(name).name for name in names] == names
    assert isinstance(load_profile("dsj-v2").identity, KeyValueIdentity)
