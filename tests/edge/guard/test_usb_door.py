"""Who may come in at which USB port, and by which sentence."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.guard.usb_descriptors import Function
from edge_agent.guard.usb_door import (
    BayPorts,
    DoorPolicy,
    Model,
    Plugged,
    Use,
    Verdict,
    drivers_for,
    judge,
    place_of,
    problems,
)
from edge_agent.mounting.port_paths import PortPath
from tests.simulators.usb_kernel import (
    ADAPTER,
    DISK,
    DISK_AND_ADAPTER,
    HUB,
    HUB_OF_FOUR,
    KEYBOARD,
    KEYS,
    MODEM,
    NETWORK,
    NETWORK_DATA,
    SERIAL_PORT,
    STORAGE,
    TELEPHONE,
    UAS,
    VENDOR,
    descriptors,
)

OWN = PortPath("1-7")
BAYS = (
    BayPorts(bay=1, ports=(PortPath("1-1.2"), PortPath("2-1.2"))),
    BayPorts(bay=2, ports=(PortPath("1-2"), PortPath("2-2"))),
)
POLICY = DoorPolicy(bays=BAYS, own_ports=(OWN,))
RECORDER = Model(
    name="DSJ-A8",
    vendor=0x46F4,
    product=0x0001,
    serials=("A8-*", "17"),
    uses=frozenset({Use.STORAGE, Use.SERIAL}),
)
LISTED = replace(POLICY, models=(RECORDER,))


def plugged(port: str, said: bytes = DISK, *, serial: str = "17", in_use: bool = False) -> Plugged:
    return Plugged(
        port=PortPath(port),
        number=3,
        is_authorized=in_use,
        untrusted_descriptors=said,
        untrusted_serial=serial,
        untrusted_name="DSJ",
    )


def verdict(device: Plugged, policy: DoorPolicy = POLICY, *open_ports: str) -> Verdict:
    return judge(policy, [device], open_ports=map(PortPath, open_ports))[device.port]


@pytest.mark.parametrize(
    ("port", "said"),
    [
        ("1-2", DISK),
        ("2-2", DISK),
        ("1-2", descriptors(1, 2, [UAS])),
        ("1-2", SERIAL_PORT),
        ("1-2.4", DISK),
        ("1-2", HUB_OF_FOUR),
        ("1-2.1", HUB_OF_FOUR),
        ("1-1", HUB_OF_FOUR),
        ("1-1.2", DISK),
        (OWN, KEYS),
        (OWN, b"no descriptors at all"),
        (f"{OWN}.2", ADAPTER),
    ],
)
def test_what_comes_in(port: str, said: bytes) -> None:
    """Disks and serial ports at bays, hubs on the way to them, anything at own ports."""
    assert verdict(plugged(port, said)).let_in


@pytest.mark.parametrize(
    ("port", "said", "because"),
    [
        ("1-2", ADAPTER, "modem or network adapter"),
        ("1-2", KEYS, "keyboard"),
        ("1-2", DISK_AND_ADAPTER, "02/06/00"),
        ("1-2", descriptors(1, 2, [STORAGE], [STORAGE, KEYBOARD]), "keyboard"),
        ("1-2", descriptors(1, 2, [TELEPHONE]), "telephone"),
        ("1-2", descriptors(1, 2, [Function(0xE0, 1, 3)]), "e0/01/03"),
        ("1-2", descriptors(1, 2, [Function(8, 5, 0x50)]), "speaks another way"),
        ("1-2", descriptors(1, 2, [Function(8, 6, 1)]), "speaks another way"),
        ("1-2", descriptors(0x0BDA, 0x8153, [VENDOR]), "known to its maker alone"),
        ("1-2", descriptors(1, 2, [MODEM, NETWORK_DATA], device_class=2), "02/02/01"),
        ("1-2", descriptors(1, 2, [STORAGE], device_class=0xE0), "class e0"),
        ("1-2", descriptors(1, 2, []), "no interface"),
        ("1-2", descriptors(1, 2), "no interface"),
        ("1-2", descriptors(1, 2, [HUB, STORAGE], device_class=9), "a hub"),
        ("1-2", descriptors(1, 2, [HUB]), "a hub"),
        ("1-2", DISK[:-1], "cannot be read"),
        ("1-3", DISK, "no bay's port"),
        ("1-3", HUB_OF_FOUR, "no bay's port"),
        ("1-20", DISK, "no bay's port"),
        ("1-1", DISK, "nothing but a hub"),
        ("1-1.3", DISK, "no bay's port"),
    ],
)
def test_what_stays_out(port: str, said: bytes, because: str) -> None:
    """Whole, whatever else it has; and the sentence says which part it was."""
    refused = verdict(plugged(port, said))

    assert not refused.let_in
    assert because in refused.because


@pytest.mark.parametrize(
    ("said", "serial", "because"),
    [
        (descriptors(0x0781, 0x5567, [STORAGE]), "17", "no model that may come in is 0781:5567"),
        (DISK, "18", "'18' is none of DSJ-A8"),
        (DISK, "", "'' is none of DSJ-A8"),
        (DISK, "b8-1", "is none of"),
        (SERIAL_PORT, "17", "0403:6001"),
        (descriptors(0x46F4, 0x0001, [STORAGE, NETWORK]), "17", "02/06/00"),
    ],
)
def test_where_models_are_listed_nothing_else_comes_in(
    said: bytes, serial: str, because: str
) -> None:
    """Numbers, serial number and each interface fit, or it is a stranger."""
    refused = verdict(plugged("1-2", said, serial=serial), LISTED)

    assert (refused.let_in, because in refused.because) == (False, True), refused


@pytest.mark.parametrize("serial", ["17", "A8-", "A8-0001"])
@pytest.mark.parametrize(
    "functions", [[STORAGE], [MODEM, NETWORK_DATA], [STORAGE, VENDOR], [STORAGE, UAS]]
)
def test_a_listed_recorder_comes_in(serial: str, functions: list[Function]) -> None:
    """In each of its modes."""
    said = descriptors(0x46F4, 0x0001, functions)

    assert verdict(plugged("1-2", said, serial=serial), LISTED).because == "it fits DSJ-A8"


def test_a_port_that_is_open() -> None:
    """Everything is let in there, and what hangs on it; next door nothing is."""
    assert verdict(plugged("1-3", KEYS), POLICY, "1-3").let_in
    assert verdict(plugged("1-3.4", KEYS), POLICY, "1-3").let_in
    assert verdict(plugged("1-3", HUB_OF_FOUR), POLICY, "1-3.4").let_in
    assert not verdict(plugged("1-4", KEYS), POLICY, "1-3").let_in


def test_one_disk_a_bay() -> None:
    """By whichever of its paths; a serial port beside it is no disk."""
    devices = [plugged("1-2.1"), plugged("1-2.2"), plugged("2-2"), plugged("1-2.3", SERIAL_PORT)]
    devices += [plugged("1-1.2")]
    judged = judge(POLICY, devices)

    assert [port for port, one in judged.items() if one.let_in] == ["1-1.2", "1-2.1", "1-2.3"]
    assert judged[PortPath("2-2")].because == "bay 2 has a disk already, at 1-2.1"


def test_the_disk_that_is_in_stays_in() -> None:
    """Whoever comes later is the one too many."""
    judged = judge(POLICY, [plugged("1-2.1"), plugged("2-2", in_use=True)])

    assert [port for port, one in judged.items() if one.let_in] == ["2-2"]


@pytest.mark.parametrize(
    ("port", "place"),
    [
        ("1-1", "on the way to 1-1.2"),
        ("1-2.3", "bay 2"),
        ("1-7", "a port of the machine's own"),
        ("1-3", "a port that is open for a while"),
        ("1-9", "no bay's port"),
    ],
)
def test_what_a_port_is(port: str, place: str) -> None:
    """For whoever asks before plugging in."""
    assert place_of(POLICY, PortPath(port), [PortPath("1-3")]) == place


def test_a_bays_port_is_not_the_machines_own() -> None:
    """Neither the same one, nor one above or below it."""
    for own in ("1-2", "1-2.1", "1-1"):
        assert problems(replace(POLICY, own_ports=(PortPath(own),)))
    assert not problems(POLICY)


@pytest.mark.parametrize("function", [KEYBOARD, NETWORK, TELEPHONE])
def test_no_driver_is_meant_for_what_is_refused(function: Function) -> None:
    """What is not let in could not be driven either."""
    assert drivers_for(function) == ()


_PORTS = st.sampled_from(["1-1", "1-1.1", "1-1.2", "1-2", "1-2.1", "1-2.2", "2-2", "1-3", "1-7"])
_ANY = st.builds(Function, st.integers(0, 255), st.integers(0, 9), st.sampled_from([0, 0x50, 0x62]))
_KNOWN = st.sampled_from([STORAGE, UAS, VENDOR, MODEM, HUB, KEYBOARD, NETWORK, NETWORK_DATA])
_SAID = st.builds(
    lambda vendor, functions, device_class: descriptors(
        vendor, 0x6001, functions, device_class=device_class
    ),
    st.sampled_from([0x0403, 0x46F4]),
    st.lists(_ANY | _KNOWN, max_size=3),
    st.sampled_from([0, 2, 8, 9, 0xEF, 0xFF]),
)


@given(st.dictionaries(_PORTS, st.tuples(_SAID | st.binary(max_size=60), st.booleans())))
def test_nothing_gets_in_that_must_not(devices: dict[str, tuple[bytes, bool]]) -> None:
    """Of all that may be plugged in: no other interface, and no second disk in a bay."""
    judged = judge(
        POLICY, [plugged(port, said, in_use=used) for port, (said, used) in devices.items()]
    )
    disks = [one.bay for one in judged.values() if one.let_in and one.has_disk and one.bay]

    assert set(judged) == set(devices)
    assert len(disks) == len(set(disks))
    for port, one in judged.items():
        assert one.because
        if one.let_in and not one.any_driver:
            said = devices[port][0]
            functions = [said[at + 5 : at + 8] for at in _interfaces(said)]
            assert functions
            assert all(drivers_for(Function(*numbers)) for numbers in functions)


def _interfaces(said: bytes) -> list[int]:
    """Return where the interfaces of descriptors stand that were believed."""
    found, at = [], 18
    while at < len(said):
        if said[at + 1] == 4:
            found.append(at)
        at += said[at]
    return found


def test_a_number_that_goes_on_fits_no_whole_one() -> None:
    """A pattern without a star is one serial number."""
    assert verdict(plugged("1-2", serial="17"), LISTED).let_in
    assert not verdict(plugged("1-2", serial="170"), LISTED).let_in


def test_a_disk_that_stays_out_takes_nobodys_place() -> None:
    """However many of them are at a hub in the bay, in front of the recorder."""
    stranger, recorder = plugged("1-2.1", DISK_AND_ADAPTER), plugged("1-2.2")
    judged = judge(POLICY, [stranger, recorder])

    assert [one.let_in for one in judged.values()] == [False, True]
