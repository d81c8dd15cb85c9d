"""The simulator within one process: the same each time, and as it is told to be."""

from pathlib import Path

import pytest

from edge_agent.drivers.driver import Verb
from edge_agent.drivers.line_messages import LineVerb
from edge_agent.drivers.socket_frames import COMMAND, DATA, encode_body
from edge_agent.errors import DriverError, PasswordRefusedError, PortFailedError
from recorder_simulator.script import Fault, FaultKind, Script
from recorder_simulator.volume import Volume
from tests.drivers.talks import Talk, faulty


def heard(script: Script) -> bytes:
    """What a dock hears of a recorder that it asks everything."""
    talk = Talk(script=script)
    heard = bytearray()
    read = talk.port.read

    def listen(size: int, timeout_s: float) -> bytes:
        data = read(size, timeout_s)
        heard.extend(data)
        return data

    talk.port.read = listen  # type: ignore[method-assign]  # listening in is the test
    talk.hold(is_log_wanted=True)
    return bytes(heard)


@pytest.mark.parametrize("kind", [FaultKind.GARBAGE, FaultKind.FLOOD])
def test_the_same_seed_is_the_same_noise(kind: FaultKind) -> None:
    """Chance is part of the script."""
    faults = (Fault(kind=kind, verb=Verb.READ_BATTERY),)

    once, again = (heard(Script(seed=7, faults=faults)) for _ in range(2))

    assert once == again
    assert once != heard(Script(seed=8, faults=faults))


def test_a_volume_comes_some_time_after_disk_mode() -> None:
    """Not at once, and not before."""
    talk = Talk(script=Script(disk_mode_after_s=3.0))
    talk.open().enter_disk_mode()
    began_s = talk.time.monotonic_s()

    assert not talk.port.engine.is_disk(began_s + 2.9)
    assert talk.port.engine.is_disk(began_s + 3.1)
    talk.port.engine.eject()
    assert not talk.port.engine.is_disk(began_s + 3.1)


def test_a_port_that_was_away_is_opened_again() -> None:
    """The old one stays gone; before it is back there is none."""
    talk = faulty(
        Fault(kind=FaultKind.RE_ENUMERATION, verb=Verb.READ_BATTERY, times=1, seconds=3.0)
    )
    session = talk.open()
    with pytest.raises(PortFailedError):
        session.read_battery()
    with pytest.raises(OSError, match="no such port"):
        talk.port.reopen()
    talk.time.sleep(3.0)
    with pytest.raises(PortFailedError):
        session.read_battery()
    talk.port.reopen()

    talk.open().read_battery()


def test_no_password_is_right_for_one_that_refuses() -> None:
    """The fault locks the recorder, and the right word does not open it."""
    fault = Fault(kind=FaultKind.PASSWORD_REFUSED)
    talk = Talk(script=Script(password="right", faults=(fault,)), password=b"right")

    with pytest.raises(PasswordRefusedError):
        talk.open().read_battery()


def test_a_challenge_is_good_for_one_try() -> None:
    """A proof that was overheard opens nothing."""
    talk = Talk(script=Script(password="right"), password=b"right")
    talk.open().read_battery()
    overheard = bytes(talk.port.written)
    talk.port.engine.recorder.plug_in_anew()

    talk.port.write(overheard)

    assert not talk.port.engine.recorder.is_unlocked


def test_requests_that_are_none_are_answered_so() -> None:
    """A verb that nobody has is unsupported, a clock that is none is malformed."""
    session = Talk(script=Script()).open()

    for verb, payload in ((99, b""), (LineVerb.SET_CLOCK, b"x"), (LineVerb.READ_LOG, b"x")):
        told: object
        try:
            told = session._ask(verb, payload)  # type: ignore[attr-defined]  # noqa: SLF001 - no public way to ask nonsense
        except DriverError as error:
            told = error.code
        assert told in {None, "E-DRV-103"}


def test_a_name_that_nobody_has_is_unsupported() -> None:
    """The socket protocol's side answers under the same name."""
    talk = Talk(script=Script(protocol="socket"))

    talk.port.write(encode_body(COMMAND + b"\xffABC"))

    assert talk.port.read(100, 1.0) == encode_body(DATA + b"\xffABC17")


def test_a_volume_moves_and_comes_back(tmp_path: Path) -> None:
    """In one step each, into an empty bay or none; again is harmless."""
    card, bay = tmp_path / "card", tmp_path / "bay"
    card.mkdir()
    (card / "clip").write_bytes(b"x")
    bay.mkdir()
    volume = Volume(card, bay=bay)

    for _ in range(2):
        volume.appear()
    assert (bay / "clip").exists()
    for _ in range(2):
        volume.vanish()
    assert (card / "clip").exists()
    assert not bay.exists()


def test_an_occupied_bay_is_not_touched(tmp_path: Path) -> None:
    """What is in a bay stays there."""
    card, bay = tmp_path / "card", tmp_path / "bay"
    card.mkdir()
    bay.mkdir()
    (bay / "another").write_bytes(b"x")
    volume = Volume(card, bay=bay)

    with pytest.raises(OSError, match="not empty"):
        volume.appear()
    assert not volume.is_present
    assert (bay / "another").exists()
