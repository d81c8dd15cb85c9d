"""edge-guard at work: it keeps the table, looks again at every change, and tells who listens."""

import errno
import os
import secrets
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final, cast

import structlog

from edge_agent.adapters.net_facts import NetFacts
from edge_agent.adapters.nft_table import NftTable
from edge_agent.adapters.radios import Radios
from edge_agent.adapters.usb_gate import Looked, UsbGate
from edge_agent.errors import GuardError
from edge_agent.guard.breaches import Breach, Kind, breaches
from edge_agent.guard.messages import Word, encode, word_of
from edge_agent.guard.policy import Policy
from edge_agent.guard.state import Watch, after_look, begin

# <linux/netlink.h>, <linux/rtnetlink.h>, <linux/netfilter/nfnetlink.h>
_SOL_NETLINK: Final = 270
_ADD_MEMBERSHIP: Final = 1
_NETLINK_ROUTE: Final = 0
_NETLINK_NETFILTER: Final = 12
_NETLINK_KOBJECT_UEVENT: Final = 15
# Links, addresses and routes of both families; rules; devices that come and go.
_HINTS: Final = (
    (_NETLINK_ROUTE, (1, 5, 7, 9, 11)),
    (_NETLINK_NETFILTER, (7,)),
    (_NETLINK_KOBJECT_UEVENT, (1,)),
)
# Of files the kernel tells no changes.
_LOOK_EVERY_S: Final = 1.0
# A change of which its word was lost is seen after so long.
_WHOLE_LOOK_EVERY_S: Final = 5.0
_MOST_LISTENERS: Final = 16

_log = structlog.get_logger(__name__)


class Guard:
    """Looks, shuts, and remembers how it stands; blocking."""

    def __init__(
        self,
        policy: Policy,
        table: NftTable,
        network: NetFacts,
        *,
        clock: Callable[[], datetime],
        enforced: bool = True,
        door: UsbGate | None = None,
        radios: Radios | None = None,
    ) -> None:
        """Change nothing yet; with *enforced* False it never does. *door* is the USB door.

        *radios* are the machine's.
        """
        self._radios = radios
        self._run = secrets.token_hex(8)
        self._policy = policy
        self._table = table
        self._network = network
        self._clock = clock
        self._enforced = enforced
        self._door = door
        self._watch = begin(clock())
        self._sha256: str | None = None
        self._is_table_ours = False
        self._unseen: tuple[Breach, ...] = ()

    @property
    def watch(self) -> Watch:
        """How it stands."""
        return self._watch

    @property
    def word(self) -> Word:
        """The same, as it is told."""
        return word_of(
            self._watch,
            enforced=self._enforced,
            table_sha256=self._sha256,
            door=None if self._door is None else self._door.told,
            facts=self._network.seen,
            refuses_frames=self._table.refuses_frames,
            run=self._run,
            packets=self._table.refused,
        )

    def load(self) -> None:
        """Put the table into the kernel.

        Raises:
            GuardError: The kernel did not take it.
        """
        if self._enforced:
            self._sha256 = self._table.load()

    def look(self, *, is_whole: bool = True) -> bool:
        """Look, shut what breaks the rule; return whether it stands otherwise now.

        Args:
            is_whole: Whether everything is looked at, or only that of which the kernel tells no
                changes: files, and USB devices.
        """
        told_before = self.word
        at_door = self._look_at_door()
        found = left = self._breaches(is_whole=is_whole)
        if self._enforced and found:
            for breach in found:
                self._shut(breach)
            left = self._breaches(is_whole=True)
        found, left = (*at_door.found, *found), (*at_door.left, *left)
        if self._radios is not None:
            radios = self._radios.look(enforced=self._enforced)
            found, left = (*found, *radios.found), (*left, *radios.left)
        for breach in set(found) - set(self._watch.open_):
            _log.warning("the rule is broken", code=breach.kind.value, text=breach.text)
        before = self._watch
        self._watch = after_look(before, found=found, left=left, now=self._clock())
        if self._watch.isolation is not before.isolation:
            _log.warning("isolation", state=self._watch.isolation.value)
        return self.word != told_before

    def _look_at_door(self) -> Looked:
        """Look at the USB devices, before all else: what is plugged in waits for it."""
        if self._door is None:
            return Looked()
        seen, opened = set(self._door.register.seen), set(self._door.open_ports)
        looked = self._door.look(self._clock(), enforced=self._enforced)
        for _, one in (one for one in self._door.register.seen if one not in seen):
            what = "a USB device is let in" if one.let_in else "a USB device is refused"
            name, because = one.untrusted_name, one.because
            _log.warning(what, port=one.port, ids=one.ids, name=name, because=because)
        for opening in opened.symmetric_difference(self._door.open_ports):
            what = "closed again" if opening in opened else "opened"
            _log.warning(f"a USB port is {what}", port=opening.port, by=opening.by)
        return looked

    def _breaches(self, *, is_whole: bool) -> tuple[Breach, ...]:
        if is_whole:
            self._look_at_table()
        facts = self._network.look(is_table_ours=self._is_table_ours, is_whole=is_whole)
        return (*self._unseen, *breaches(self._policy, facts))

    def _look_at_table(self) -> None:
        self._is_table_ours, self._unseen = True, ()
        if self._enforced:
            try:
                self._sha256 = self._table.follow() or self._sha256
                self._is_table_ours = self._table.is_ours()
            except GuardError as error:
                unseen = Breach(kind=Kind.CANNOT_LOOK, subject="nftables", text=str(error))
                self._unseen = (unseen,)

    def _shut(self, breach: Breach) -> None:
        if breach.kind is Kind.TABLE_CHANGED:
            try:
                self._sha256 = self._table.load()
            except GuardError as error:
                _log.error("the table cannot be loaded", reason=str(error))
        else:
            self._network.shut(breach)


class GuardService:
    """Runs a guard, and has who connects to its socket told how it stands."""

    def __init__(self, guard: Guard, path: Path, *, reader_gid: int | None) -> None:
        """Listen at *path*; users of the group *reader_gid* may connect, and only listen.

        Raises:
            OSError: It cannot be bound.
        """
        self._guard = guard
        self._listeners: set[socket.socket] = set()
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path.unlink(missing_ok=True)
        self._door.bind(str(path))
        if reader_gid not in {None, os.getegid()}:
            os.chown(path, -1, reader_gid)
        path.chmod(0o660)
        self._door.listen(_MOST_LISTENERS)
        self._door.setblocking(False)  # noqa: FBT003 - socket's own signature
        self._selector.register(self._door, selectors.EVENT_READ)
        self._hints = _hint_sockets()
        for hint in self._hints:
            self._selector.register(hint, selectors.EVENT_READ)

    def run(self, *, alive: Callable[[], None]) -> None:
        """Look until `stop`; *alive* is called after each look."""
        whole_at_s = time.monotonic()
        try:
            while not self._stopping:
                is_whole = time.monotonic() >= whole_at_s
                if self._guard.look(is_whole=is_whole):
                    self._tell_all()
                alive()
                if is_whole:
                    whole_at_s = time.monotonic() + _WHOLE_LOOK_EVERY_S
                if self._wait():
                    whole_at_s = time.monotonic()
        finally:
            for one in (*self._listeners, self._door, *self._hints):
                one.close()
            self._selector.close()

    def stop(self) -> None:
        """End `run` within a second; may be called from a signal's handler."""
        self._stopping = True

    def _wait(self) -> bool:
        """Return, when somebody came or a while has passed, whether something has changed."""
        has_changed = False
        for key, _ in self._selector.select(_LOOK_EVERY_S):
            if key.fileobj is self._door:
                self._welcome()
            elif key.fileobj in self._hints:
                _drain(key.fileobj)
                has_changed = True
            else:  # a listener has nothing to say: it left
                self._drop(cast("socket.socket", key.fileobj))
        return has_changed

    def _welcome(self) -> None:
        with suppress(BlockingIOError):
            listener, _ = self._door.accept()
            listener.setblocking(False)  # noqa: FBT003 - likewise
            if len(self._listeners) >= _MOST_LISTENERS:
                listener.close()
                return
            self._listeners.add(listener)
            self._selector.register(listener, selectors.EVENT_READ)
            self._tell(listener, encode(self._guard.word))

    def _tell_all(self) -> None:
        line = encode(self._guard.word)
        for listener in list(self._listeners):
            self._tell(listener, line)

    def _tell(self, listener: socket.socket, line: bytes) -> None:
        try:
            sent = listener.send(line)
        except OSError:
            sent = 0
        if sent != len(line):
            self._drop(listener)  # it connects again, and is told all

    def _drop(self, listener: socket.socket) -> None:
        self._listeners.discard(listener)
        self._selector.unregister(listener)
        listener.close()


def _hint_sockets() -> list[socket.socket]:
    """Return sockets that become readable when something of the network or the rules changes."""
    made = []
    for family, groups in _HINTS:
        hint = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, family)
        try:
            hint.bind((0, 0))
            for group in groups:
                hint.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        except PermissionError:
            # A dry run as an ordinary user hears nothing of the rules, which are not there.
            hint.close()
        else:
            made.append(hint)
    return made


def _drain(hint: socket.socket) -> None:
    """Take what came: what it says is looked at anew anyway, also where some was lost."""
    while True:
        try:
            if not hint.recv(65_536):
                return
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
