"""What edge-guard says to the agent, without edge-guard."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from socket import AF_UNIX, socket

from edge_agent.guard.messages import ToldBreach, ToldSpell, Word, encode
from protocol.attestation import Counted
from protocol.manifest import Isolation

SINCE = datetime(2026, 11, 27, 8, 0, tzinfo=UTC)
ROUTE = ToldBreach(code="E-ISO-102", subject="default", text="a route to everywhere")
GUARD = """
[guard]
interfaces = ["eth0"]
networks = ["192.168.10.0/24"]
socket = "{socket}"
"""


@dataclass
class Guard:
    """Says what edge-guard would, to the agent that listens."""

    word: Word
    lines: list[socket] = field(default_factory=list)

    def say(self, word: Word) -> None:
        """Say it to all who listen, and to those who come."""
        self.word = word
        for line in self.lines:
            line.sendall(encode(word))

    def listen(self, door: socket) -> None:
        """Tell whoever comes through *door*."""
        while True:
            try:
                line, _ = door.accept()
            except OSError:
                return
            self.lines.append(line)
            line.sendall(encode(self.word))


@contextmanager
def guarding(path: Path, word: Word) -> Iterator[Guard]:
    """Be there for the length of the block, at the socket *path*."""
    guard = Guard(word)
    with closing(socket(AF_UNIX)) as door:
        door.bind(str(path))
        door.listen()
        listening = threading.Thread(target=guard.listen, args=(door,), daemon=True)
        listening.start()
        try:
            yield guard
        finally:
            door.shutdown(2)
            listening.join()
            for line in guard.lines:
                line.close()


def word_of(isolation: Isolation, *, is_open: bool, changes: int = 0) -> Word:
    """Return what the guard says of a rule that was broken once, and changed so often since."""
    spell = ToldSpell(
        number=1,
        changed=max(1, changes),
        breach=ROUTE,
        began_at=SINCE,
        ended_at=None if is_open else SINCE,
    )
    return Word(
        isolation=isolation,
        since=SINCE,
        enforced=True,
        open=(ROUTE,) if is_open else (),
        incident=(ROUTE,),
        began_at=SINCE,
        counted=Counted(run="one", changes=changes, breaches=min(1, changes)),
        spells=(spell,) if changes else (),
    )
