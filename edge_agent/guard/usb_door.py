"""Which USB device a dock lets in, and by which sentence; all others stay without a driver."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum, unique
from fnmatch import fnmatchcase
from typing import Final

from edge_agent.errors import UsbDescriptorsError
from edge_agent.guard.usb_descriptors import Descriptors, Function, parse_descriptors
from edge_agent.mounting.port_paths import PortPath, is_below, order_of

# https://www.usb.org/defined-class-codes
_PER_INTERFACE: Final = 0x00
_COMMUNICATIONS: Final = 0x02
_STORAGE: Final = 0x08
_HUB: Final = 0x09
_DATA: Final = 0x0A
_MISCELLANEOUS: Final = 0xEF
_VENDOR: Final = 0xFF
_ACM: Final = 0x02
_SCSI: Final = 0x06
_BULK_ONLY_AND_UAS: Final = frozenset({0x50, 0x62})

_SHOWN_TEXT: Final = 48

_NAMES: Final[dict[int, str]] = {
    0x01: "sound",
    _COMMUNICATIONS: "a modem or network adapter",
    0x03: "a keyboard or mouse",
    0x06: "a camera or telephone",
    0x07: "a printer",
    _STORAGE: "a disk that speaks another way",
    _HUB: "a hub",
    _DATA: "data of a modem or network adapter",
    0x0B: "a smart card reader",
    0x0E: "video",
    0xE0: "a wireless or network adapter",
    _MISCELLANEOUS: "of no class of its own",
    _VENDOR: "known to its maker alone",
}


@unique
class Use(Enum):
    """What a recorder may be at a bay."""

    STORAGE = "storage"
    SERIAL = "serial"

    def covers(self, function: Function) -> bool:
        """Return whether an interface is for this use, and for nothing else."""
        if self is Use.STORAGE:
            return (function.number, function.subclass) == (_STORAGE, _SCSI) and (
                function.protocol in _BULK_ONLY_AND_UAS
            )
        if function.number == _COMMUNICATIONS:
            return function.subclass == _ACM
        return function.number in {_DATA, _VENDOR}


# What the device descriptor may say beside "see my interfaces".
_DEVICE_CLASSES: Final = {
    Use.STORAGE: frozenset({_STORAGE}),
    Use.SERIAL: frozenset({_COMMUNICATIONS, _VENDOR}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A device that may come in at a bay.

    Attributes:
        vendor: None for whichever, as is *product*.
        serials: Patterns as of a shell, of which its serial number fits one; none for any number.
        uses: Every interface is for one of these.
    """

    name: str
    vendor: int | None = None
    product: int | None = None
    serials: tuple[str, ...] = ()
    uses: frozenset[Use]

    def is_about(self, descriptors: Descriptors) -> bool:
        """Return whether a device names itself so."""
        return self.vendor in {None, descriptors.vendor} and (
            self.product in {None, descriptors.product}
        )

    def objection(self, descriptors: Descriptors, untrusted_serial: str) -> str | None:
        """Return what speaks against a device that this model is about; None for nothing."""
        allowed = {_PER_INTERFACE, _MISCELLANEOUS}.union(
            *(_DEVICE_CLASSES[use] for use in self.uses)
        )
        if not descriptors.functions:
            return "it has no interface"
        for function in descriptors.functions:
            if not any(use.covers(function) for use in self.uses):
                name = _NAMES.get(function.number, "of an unknown class")
                return f"interface {function} ({name}) is not for {self._uses}"
        if descriptors.device_class not in allowed:
            return f"its class {descriptors.device_class:02x} is not for {self._uses}"
        if self.serials and not any(fnmatchcase(untrusted_serial, one) for one in self.serials):
            return f"its serial number {untrusted_serial[:_SHOWN_TEXT]!a} is none of {self.name}"
        return None

    @property
    def _uses(self) -> str:
        return " or ".join(sorted(use.value for use in self.uses))


_SERIAL_ALONE: Final = frozenset({Use.SERIAL})
# What a site gets that lists no models: disks, and the chips that recorders' and chargers' serial
# ports are made with. A vendor's own interface is let in with these numbers alone, because the
# drivers of network adapters go by such numbers too.
USUAL_MODELS: Final = (
    Model(name="FT232", vendor=0x0403, product=0x6001, uses=_SERIAL_ALONE),
    Model(name="FT-X", vendor=0x0403, product=0x6015, uses=_SERIAL_ALONE),
    Model(name="CP210x", vendor=0x10C4, product=0xEA60, uses=_SERIAL_ALONE),
    Model(name="CH340", vendor=0x1A86, product=0x7523, uses=_SERIAL_ALONE),
    Model(name="PL2303", vendor=0x067B, product=0x2303, uses=_SERIAL_ALONE),
    Model(name="any mass storage", uses=frozenset({Use.STORAGE})),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BayPorts:
    """A bay's connectors; what hangs on a hub there is in the bay, too."""

    bay: int
    ports: tuple[PortPath, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorPolicy:
    """Who may come in where.

    Attributes:
        own_ports: Of the machine itself: whatever is plugged in there is let in.
    """

    bays: tuple[BayPorts, ...]
    own_ports: tuple[PortPath, ...] = ()
    models: tuple[Model, ...] = USUAL_MODELS


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugged:
    """A device as the kernel shows it.

    Attributes:
        number: Of this time: it is another one when the device comes back.
        is_authorized: Whether the kernel uses it.
    """

    port: PortPath
    number: int
    is_authorized: bool
    untrusted_descriptors: bytes
    untrusted_serial: str
    untrusted_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a device is let in, and why.

    Attributes:
        bay: That it is in.
        ids: Vendor and product, as ``lsusb`` writes them; "" if it does not say.
        has_disk: Whether one of its interfaces is for mass storage.
        any_driver: Whether it is nobody's business here which driver it gets.
    """

    let_in: bool
    because: str
    bay: int | None = None
    ids: str = ""
    has_disk: bool = False
    any_driver: bool = False


def judge(
    policy: DoorPolicy, devices: Iterable[Plugged], *, open_ports: Iterable[PortPath] = ()
) -> dict[PortPath, Verdict]:
    """Return what becomes of each device: of those in a bay, one alone may have a disk.

    Args:
        policy: Of the dock.
        devices: All that are plugged in.
        open_ports: What a technician has opened for a while.
    """
    opened = tuple(open_ports)
    disks: dict[int, PortPath] = {}
    judged: dict[PortPath, Verdict] = {}
    # Who is in stays in.
    for one in sorted(devices, key=lambda one: (not one.is_authorized, order_of(one.port))):
        verdict = _verdict(policy, one, opened)
        if verdict.let_in and verdict.has_disk and verdict.bay is not None:
            first = disks.setdefault(verdict.bay, one.port)
            if first != one.port:
                because = f"bay {verdict.bay} has a disk already, at {first}"
                verdict = replace(verdict, let_in=False, because=because)
        judged[one.port] = verdict
    return judged


def drivers_for(function: Function) -> tuple[str, ...]:
    """Return the kernel's drivers that may have an interface, the best one first."""
    if function.number == _HUB:
        return ("hub",)
    if Use.STORAGE.covers(function):
        return ("uas", "usb-storage")
    if function.number == _VENDOR:
        return ("ftdi_sio", "cp210x", "ch341", "pl2303")
    return ("cdc_acm",) if Use.SERIAL.covers(function) else ()


def place_of(policy: DoorPolicy, port: PortPath, open_ports: Iterable[PortPath] = ()) -> str:
    """Return what a port is, in English."""
    opened = tuple(open_ports)
    if _is_in(port, policy.own_ports):
        return "a port of the machine's own"
    if _is_in(port, opened):
        return "a port that is open for a while"
    if (bay := _bay_at(policy, port)) is not None:
        return f"bay {bay}"
    on_way = next((one for one in _places(policy, opened) if is_below(one, port)), None)
    return "no bay's port" if on_way is None else f"on the way to {on_way}"


def problems(policy: DoorPolicy) -> tuple[str, ...]:
    """Return what is wrong with a policy, in English."""
    return tuple(
        f"USB port {own} is the machine's own and bay {bay.bay}'s, too"
        for own in policy.own_ports
        for bay in policy.bays
        if any(is_below(port, own) or is_below(own, port) for port in bay.ports)
    )


def _verdict(policy: DoorPolicy, device: Plugged, opened: tuple[PortPath, ...]) -> Verdict:
    place = place_of(policy, device.port, opened)
    bay = _bay_at(policy, device.port)
    try:
        said = parse_descriptors(device.untrusted_descriptors)
    except UsbDescriptorsError as error:
        said, trouble = None, str(error)
    else:
        trouble = ""
    ids = "" if said is None else f"{said.vendor:04x}:{said.product:04x}"
    if _is_in(device.port, (*policy.own_ports, *opened)):
        return Verdict(let_in=True, because=place, ids=ids, any_driver=True)
    if said is None:
        return Verdict(let_in=False, because=f"what it is cannot be read: {trouble}", bay=bay)
    is_on_way = any(is_below(one, device.port) for one in _places(policy, opened))
    if _is_hub(said) and (is_on_way or bay is not None):
        return Verdict(let_in=True, because=f"a hub, {place}", bay=bay, ids=ids)
    if bay is None:
        only = ": nothing but a hub may be there" if is_on_way else ""
        return Verdict(let_in=False, because=f"port {device.port} is {place}{only}", ids=ids)
    let_in, because = _in_bay(policy, said, device.untrusted_serial)
    has_disk = any(Use.STORAGE.covers(one) for one in said.functions)
    return Verdict(let_in=let_in, because=because, bay=bay, ids=ids, has_disk=has_disk)


def _in_bay(policy: DoorPolicy, said: Descriptors, untrusted_serial: str) -> tuple[bool, str]:
    objections = []
    for model in policy.models:
        if model.is_about(said):
            objection = model.objection(said, untrusted_serial)
            if objection is None:
                return True, f"it fits {model.name}"
            objections.append(objection)
    unknown = f"no model that may come in is {said.vendor:04x}:{said.product:04x}"
    return False, objections[0] if objections else unknown


def _is_hub(said: Descriptors) -> bool:
    numbers = {one.number for one in said.functions}
    return said.device_class == _HUB and numbers == {_HUB}


def _is_in(port: PortPath, places: Iterable[PortPath]) -> bool:
    return any(is_below(port, one) for one in places)


def _bay_at(policy: DoorPolicy, port: PortPath) -> int | None:
    return next((one.bay for one in policy.bays if _is_in(port, one.ports)), None)


def _places(policy: DoorPolicy, opened: tuple[PortPath, ...]) -> Iterator[PortPath]:
    """Yield all ports where something but a hub may be plugged in."""
    for bay in policy.bays:
        yield from bay.ports
    yield from policy.own_ports
    yield from opened
