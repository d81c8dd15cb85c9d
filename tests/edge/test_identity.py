from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import UnidentifiedRecorderError
from edge_agent.ingest.identity import identify, identity_files
from tests.simulators.docking_site import MORNING, PROFILES, clip_path

DEVICE = b"SYSTEM/DEVICE.TXT"


def from_device_file(content: bytes) -> tuple[str, str | None]:
    found = identify(PROFILES, [DEVICE], {DEVICE: content})
    return found.serial, found.officer


def test_names_identify_a_recorder() -> None:
    """Serial and officer stand in the clips' names; make and model in the profile."""
    found = identify(PROFILES, [clip_path(MORNING, 1)], {})

    assert (found.serial, found.officer) == ("0000017", "012345")
    assert (found.make, found.model, found.profile.name) == ("DSJ", "DSJ-A8", "dsj-a8")


def test_the_newest_clip_says_whose_it_is() -> None:
    """A recorder that changed hands belongs to who filmed last."""
    paths = [
        clip_path(MORNING + timedelta(days=1), 2, officer="012346"),
        clip_path(MORNING, 1, officer="999999"),
    ]

    assert identify(PROFILES, paths, {}).officer == "012346"


def test_a_device_file_in_gbk_identifies_a_recorder() -> None:
    """Lines key=value in the profile's encoding, whatever else is in the file."""
    text = "[device]\r\nSERIAL = V200042\r\nname=李娜\r\npolice=012346\r\n"

    assert from_device_file(text.encode("gbk")) == ("V200042", "012346")


def test_undecodable_characters_harm_only_themselves() -> None:
    """A broken name of a person does not keep a recorder from being identified."""
    assert from_device_file(b"name=\xff\xff\r\nserial=V2\r\n") == ("V2", None)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"serial=\r\n",
        b"serial=V2\r\nserial=V3\r\n",
        b"serial=\xff\xff\r\n",
        b"serial=" + b"7" * 65,
        b"serial=V\x00\x1b[31m2\r\n",
        b"\x00" * 70_000,
        "serial=V2\r\n".encode("utf-16"),
    ],
)
def test_a_hostile_device_file_identifies_nobody(content: bytes) -> None:
    """Missing, contradicting, undecodable, too long or unprintable: no identity."""
    with pytest.raises(UnidentifiedRecorderError):
        from_device_file(content)


def test_two_device_files_that_disagree_identify_nobody() -> None:
    """Spellings of one name that differ by case are one file on the recorder's own system."""
    contents = {DEVICE: b"serial=V2", b"system/device.txt": b"serial=V3"}

    with pytest.raises(UnidentifiedRecorderError, match="2 values"):
        identify(PROFILES, list(contents), contents)


def test_a_device_file_that_cannot_be_read_identifies_nobody() -> None:
    """The profile fits by the file's name, but nobody could read it."""
    with pytest.raises(UnidentifiedRecorderError, match="cannot be read"):
        identify(PROFILES, [DEVICE], {})


def test_a_wrong_officer_is_no_officer() -> None:
    """What does not have the form of an officer's number is left out."""
    assert from_device_file(b"serial=V2\r\npolice=../../etc\r\n") == ("V2", None)


def test_only_files_of_fitting_profiles_are_read() -> None:
    """Identity asks for the small files that some profile needs, and for no others."""
    paths = [b"System/Device.txt", b"RECORDER.ID.bak", clip_path(MORNING, 1)]

    assert identity_files(PROFILES, paths) == (b"System/Device.txt",)


def test_a_thousand_spellings_are_not_read() -> None:
    """However many spellings of one name there are, few files are read."""
    name = "recorder.id"
    spellings = [
        "".join(
            letter.upper() if number >> bit & 1 else letter for bit, letter in enumerate(name)
        ).encode()
        for number in range(1 << len(name))
    ]

    assert len(identity_files(PROFILES, spellings)) <= 16


@given(st.binary(max_size=200))
def test_any_content_identifies_or_is_refused(content: bytes) -> None:
    """No content of a device file makes identification fail in another way."""
    try:
        serial, _ = from_device_file(content)
    except UnidentifiedRecorderError:
        return
    assert serial.isprintable()
    assert 1 <= len(serial) <= 64
