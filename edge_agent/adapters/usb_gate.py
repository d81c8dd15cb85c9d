"""The USB door: what the kernel may use of what is plugged in; blocking.

New devices come with ``authorized`` 0 and, when that is 1, interfaces with ``authorized`` 0: no
driver is asked before this says which one may have it. (Linux, Documentation/usb/authorization.)
All files of a device are opened below its own folder, which is opened once: when it is pulled, and
another one comes in its place, they are gone, and nothing of the other one is touched.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from edge_agent.adapters.usb_openings import Opening, Openings
from edge_agent.guard.breaches import Breach, Kind
from edge_agent.guard.messages import ToldDoor, ToldOpening, door_of
from edge_agent.guard.usb_descriptors import MAX_DESCRIPTORS_BYTES, Function
from edge_agent.guard.usb_door import DoorPolicy, Plugged, Verdict, drivers_for, judge
from edge_agent.guard.usb_register import Register, Sighting, after_look
from edge_agent.mounting.port_paths import PortPath, is_below, order_of, parse_port

_MAX_TEXT: Final = 126  # a string descriptor has no more characters: USB 2.0, section 9.6.7
_SHOWN_TEXT: Final = 48
_DEFAULTS: Final = ("authorized_default", "interface_authorized_default")
# A driver may still be on its way into the kernel.
_MOST_TRIES: Final = 10
_TRY_EVERY: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a look found, and what is left of it."""

    found: tuple[Breach, ...] = ()
    left: tuple[Breach, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Interface:
    """An interface of a device that is let in, as the kernel has it; *name* is its folder."""

    name: str
    function: Function
    driver: str | None


@dataclass(slots=True)
class _Known:
    """What is remembered of a device while it is plugged in.

    Attributes:
        trouble: Why it could not be let in when that was tried last.
        barred: Why it is not let in any more.
    """

    tries: int = 0
    tried_at: datetime | None = None
    trouble: str | None = None
    barred: str | None = None


@dataclass(slots=True)
class _Device:
    """A device whose folder is open."""

    folder: int
    plugged: Plugged
    known: _Known = field(default_factory=_Known)


def write_setting(folder: int, name: str, text: str) -> None:
    """Write a file of sysfs below an open folder; OSError where the kernel does not take it."""
    file = os.open(name, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.write(file, text.encode("ascii"))
    finally:
        os.close(file)


class UsbGate:
    """Keeps the door."""

    def __init__(
        self,
        policy: DoorPolicy,
        openings: Openings,
        *,
        root: Path = Path("/sys"),
        write: Callable[[int, str, str], None] = write_setting,
    ) -> None:
        """Touch nothing yet; *root* is where sysfs is mounted."""
        self._policy = policy
        self._openings = openings
        self._bus = root / "bus" / "usb"
        self._write = write
        self._shut_buses: set[str] = set()
        self._known: dict[tuple[PortPath, int], _Known] = {}
        self._were_open: frozenset[PortPath] = frozenset()
        self.register = Register()
        self.open_ports: tuple[Opening, ...] = ()

    @property
    def told(self) -> ToldDoor:
        """What is there and what was refused, as edge-guard tells it."""
        open_ports = (
            ToldOpening(port=one.port, until=one.until, by=one.by) for one in self.open_ports
        )
        return door_of(self.register, open_ports)

    def look(self, now: datetime, *, enforced: bool) -> Looked:
        """Look at all devices; with *enforced* shut out what must not be in, let in what may.

        One device at most is let in: one that does not answer holds up one look.
        """
        openings = self._openings.read()
        over = tuple(one for one in openings if self._openings.is_over(one))
        self.open_ports = tuple(one for one in openings if one not in over)
        open_ = frozenset(PortPath(one.port) for one in self.open_ports)
        closing = (self._were_open | {PortPath(one.port) for one in over}) - open_
        self._were_open = open_
        found = list(self._open_buses(enforced=enforced))
        with self._devices() as devices:
            plugged = (one.plugged for one in devices.values())
            judged = judge(self._policy, plugged, open_ports=open_)
            for port, one in devices.items():
                judged[port] = _as_known(one, judged[port])
            found += self._intruders(devices, judged, closing, enforced=enforced)
            if enforced:
                self._let_in(devices, judged, now)
            left = tuple(self._left(found, devices, enforced=enforced))
            self._note(devices, judged, now)
        if enforced:
            for opening in over:
                self._openings.forget(opening)
        return Looked(found=tuple(found), left=left)

    def _open_buses(self, *, enforced: bool) -> Iterator[Breach]:
        """Set each bus to let nothing in; yield those that were opened behind our back."""
        for name in (f"{bus}/{name}" for bus in self._names("usb") for name in _DEFAULTS):
            if (value := self._setting(name)) in {"", "0"}:
                continue
            if enforced:
                with contextlib.suppress(OSError), self._folder(".") as folder:
                    self._write(folder, name, "0")
            if name in self._shut_buses or not enforced:
                text = f"{name} was {value}: the ports let in whatever comes"
                yield Breach(kind=Kind.USB_OPEN, subject=name, text=text)
            self._shut_buses.add(name)

    def _setting(self, name: str) -> str:
        """Return a setting of a bus; "" if it has gone."""
        try:
            with self._folder(".") as folder:
                return _text(folder, name)
        except OSError:
            return ""

    def _intruders(
        self,
        devices: dict[PortPath, _Device],
        judged: dict[PortPath, Verdict],
        closing: frozenset[PortPath],
        *,
        enforced: bool,
    ) -> Iterator[Breach]:
        """Shut out what is in use and must not be; what was let in for a while is no breach."""
        for port, one in devices.items():
            if one.plugged.is_authorized and not judged[port].let_in:
                if enforced:
                    self._shut(one)
                if not any(is_below(port, other) for other in closing):
                    yield _breach(one.plugged, judged[port])

    def _shut(self, one: _Device) -> None:
        with contextlib.suppress(OSError):  # what is left of it is seen afterwards
            self._write(one.folder, "authorized", "0")

    def _let_in(
        self, devices: dict[PortPath, _Device], judged: dict[PortPath, Verdict], now: datetime
    ) -> None:
        for port, one in devices.items():
            verdict = judged[port]
            if not verdict.let_in or not _may_try(one.known, now):
                continue
            is_new = not one.plugged.is_authorized
            if not is_new and all(interface.driver for interface in _interfaces(one)):
                continue
            one.known.tries += 1
            one.known.tried_at = now
            self._try(one, any_driver=verdict.any_driver)
            if is_new:
                return

    def _try(self, one: _Device, *, any_driver: bool) -> None:
        """Let a device in, if it is not yet, and have it driven; note why, where that failed."""
        try:
            if not one.plugged.is_authorized:
                self._authorize(one)
            if one.known.barred is None:
                self._drive(one, any_driver=any_driver)
            one.known.trouble = None
        except OSError as error:
            one.known.trouble = f"the kernel does not let it in: {error.strerror}"
        if one.known.trouble or one.known.barred:
            self._shut(one)

    def _authorize(self, one: _Device) -> None:
        """Let a device in, without drivers; bar it if it is not what it was."""
        self._write(one.folder, "authorized", "1")
        again = _plugged(one.folder, one.plugged.port)
        if again != replace(one.plugged, is_authorized=True):
            one.known.barred = "it changed while it was let in"

    def _drive(self, one: _Device, *, any_driver: bool) -> None:
        """Have the interfaces of a device driven, each by a driver that is meant for it."""
        free = [interface for interface in _interfaces(one) if interface.driver is None]
        for interface in free:
            self._write(one.folder, f"{interface.name}/authorized", "1")
        bus = os.open(self._bus, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for interface in free:
                files = [f"drivers/{name}/bind" for name in drivers_for(interface.function)]
                for file in ["drivers_probe"] if any_driver else files:
                    with contextlib.suppress(OSError):  # no such driver, or it is none of its own
                        self._write(bus, file, interface.name)
                        break
        finally:
            os.close(bus)
        if not any_driver:
            # Nobody comes by later for what no driver took now.
            for interface in _interfaces(one):
                if interface.driver is None:
                    self._write(one.folder, f"{interface.name}/authorized", "0")

    def _left(
        self, found: list[Breach], devices: dict[PortPath, _Device], *, enforced: bool
    ) -> Iterator[Breach]:
        """Yield what is broken still."""
        for breach in found:
            port = parse_port(breach.subject.partition(" ")[0])
            if port is None:
                is_left = self._setting(breach.subject) not in {"", "0"}
            else:
                is_left = _text(devices[port].folder, "authorized") not in {"", "0"}
            if is_left or not enforced:
                yield breach

    def _note(
        self, devices: dict[PortPath, _Device], judged: dict[PortPath, Verdict], now: datetime
    ) -> None:
        self._known = {(port, one.plugged.number): one.known for port, one in devices.items()}
        seen = []
        for port, one in devices.items():
            verdict, trouble = judged[port], one.known.barred or one.known.trouble
            if verdict.let_in and trouble is not None:
                verdict = replace(verdict, let_in=False, because=trouble)
            seen.append((one.plugged.number, _sighting(one.plugged, verdict)))
        self.register = after_look(self.register, seen, now=now)

    @contextlib.contextmanager
    def _devices(self) -> Iterator[dict[PortPath, _Device]]:
        """Yield all devices that are plugged in, in order of ports, their folders open."""
        ports = sorted(filter(None, map(parse_port, self._names(""))), key=order_of)
        with contextlib.ExitStack() as folders:
            devices: dict[PortPath, _Device] = {}
            for port in ports:
                try:
                    folder = folders.enter_context(self._folder(port))
                    plugged = _plugged(folder, port)
                except (OSError, ValueError):
                    continue  # pulled meanwhile
                known = self._known.get((port, plugged.number), _Known())
                devices[port] = _Device(folder=folder, plugged=plugged, known=known)
            yield devices

    @contextlib.contextmanager
    def _folder(self, name: str) -> Iterator[int]:
        path = self._bus / "devices" / name
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield folder
        finally:
            os.close(folder)

    def _names(self, beginning: str) -> list[str]:
        try:
            names = os.listdir(self._bus / "devices")  # noqa: PTH208 - names are wanted
        except OSError:
            return []
        return sorted(name for name in names if name.startswith(beginning))


def _as_known(one: _Device, verdict: Verdict) -> Verdict:
    """Return a verdict, with what was seen of the device since it was let in."""
    if not verdict.let_in:
        return verdict
    if one.plugged.is_authorized and not verdict.any_driver:
        for interface in _interfaces(one):
            if interface.driver not in {None, *drivers_for(interface.function)}:
                text = f"interface {interface.function} has the driver {interface.driver}"
                one.known.barred = text
    if one.known.barred is not None:
        return replace(verdict, let_in=False, because=one.known.barred)
    return verdict


def _may_try(known: _Known, now: datetime) -> bool:
    is_time = known.tried_at is None or abs(now - known.tried_at) >= _TRY_EVERY
    return is_time and known.tries < _MOST_TRIES


def _breach(plugged: Plugged, verdict: Verdict) -> Breach:
    sighting = _sighting(plugged, verdict)
    return Breach(
        kind=Kind.FOREIGN_USB,
        subject=f"{plugged.port} {sighting.ids}",
        text=f"the USB device {sighting.ids} {sighting.untrusted_name} at {plugged.port} was in"
        f" use: {verdict.because}",
    )


def _sighting(plugged: Plugged, verdict: Verdict) -> Sighting:
    name, serial = plugged.untrusted_name, plugged.untrusted_serial
    return Sighting(
        port=plugged.port,
        bay=verdict.bay,
        ids=verdict.ids,
        untrusted_name=f"{name[:_SHOWN_TEXT]!a} {serial[:_SHOWN_TEXT]!a}",
        let_in=verdict.let_in,
        because=verdict.because,
    )


def _plugged(folder: int, port: PortPath) -> Plugged:
    """Return a device as it is shown; OSError or ValueError if it is gone."""
    return Plugged(
        port=port,
        number=int(_bytes(folder, "devnum", _MAX_TEXT)),
        is_authorized=_bytes(folder, "authorized", _MAX_TEXT).strip() != b"0",
        untrusted_descriptors=_bytes(folder, "descriptors", MAX_DESCRIPTORS_BYTES + 1),
        untrusted_serial=_text(folder, "serial"),
        untrusted_name=_text(folder, "product"),
    )


def _interfaces(one: _Device) -> list[_Interface]:
    """Return a device's interfaces, as far as they can be looked at."""
    found: list[_Interface] = []
    try:
        names = sorted(os.listdir(one.folder))  # noqa: PTH208 - below an open folder
    except OSError:
        return found  # pulled meanwhile
    for name in names:
        if not name.startswith(f"{one.plugged.port}:"):
            continue
        with contextlib.suppress(OSError, ValueError):
            numbers = (
                int(_bytes(one.folder, f"{name}/{part}", _MAX_TEXT), 16)
                for part in ("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol")
            )
            found.append(
                _Interface(name=name, function=Function(*numbers), driver=_driver(one.folder, name))
            )
    return found


def _driver(folder: int, interface: str) -> str | None:
    try:
        return Path(os.readlink(f"{interface}/driver", dir_fd=folder)).name
    except OSError:
        return None


def _text(folder: int, name: str) -> str:
    try:
        text = _bytes(folder, name, 4 * _MAX_TEXT).decode(errors="replace")
    except OSError:
        return ""
    return text.strip("\n")[:_MAX_TEXT]


def _bytes(folder: int, name: str, most: int) -> bytes:
    file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        read = b""
        while len(read) < most and (more := os.read(file, most - len(read))):
            read += more
        return read
    finally:
        os.close(file)
