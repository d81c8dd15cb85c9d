"""How soon edge-guard shuts what breaks the no-internet rule and says so, and what it costs idle.

In network namespaces, as root; nothing touches this machine's own network.
"""

import os
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Final

from bench.figures import MIB, Report
from bench.idle import resident_bytes, used_percent
from demo.programs import DemoError
from edge_agent.guard.messages import MAX_WORD_BYTES, Word, parse
from tests.simulators.guarded_lan import Guarded, prepared
from tests.simulators.lan import ROUTER

SHUT: Final = "guard: breach → shut and reported"
IDLE: Final = "guard: processor when idle, of one core"
MEMORY: Final = "guard: memory when idle"

_ROUNDS: Final = 14
_SETTLED_S: Final = 5.0
_WATCHED_S: Final = 30.0
_PATIENCE_S: Final = 60.0


def measure_guard(report: Report) -> None:
    """Break the rule again and again, and take the middle of what it took; then do nothing.

    Raises:
        DemoError: Not root, or the guard did not answer.
    """
    if os.geteuid() != 0:
        raise DemoError("only root has network namespaces of its own")
    print("edge-guard, in network namespaces")
    with prepared(default_route=False) as guarded:
        guarded.start()
        _idle(report, guarded)
        taken: dict[str, list[float]] = {}
        for number in range(_ROUNDS):
            for what, break_it in _breaches(guarded, number):
                taken.setdefault(what, []).append(_shut_after_ms(guarded, break_it))
    everything = [one for some in taken.values() for one in some]
    middles = (f"{what} {statistics.median(some):.0f}" for what, some in taken.items())
    note = f"ms by kind: {', '.join(middles)}; most {max(everything):.0f}"
    report.add(SHUT, statistics.median(everything), "ms", note=note)


def _idle(report: Report, guarded: Guarded) -> None:
    pid = guarded.program.pid
    time.sleep(_SETTLED_S)
    note = "name servers, settings and USB each second, all else every 5 s; nft not counted"
    report.add(IDLE, used_percent(pid, _WATCHED_S), "%", note=note)
    report.add(MEMORY, resident_bytes(pid) / MIB, "MiB", note="VmRSS")


def _breaches(guarded: Guarded, number: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield ways to break the rule; of a number, each is another breach than of those before."""
    dock = guarded.site.dock
    yield "route", lambda: dock.ip(f"route add 203.0.113.{number}/32 via {ROUTER}")
    yield "address", lambda: dock.ip(f"address add 198.51.100.{number}/32 dev eth0")
    yield "interface", lambda: guarded.site.plug(f"wlan{number}")


def _shut_after_ms(guarded: Guarded, break_it: Callable[[], object]) -> float:
    """Return how long it takes from before the rule is broken until it is said to be shut."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(_PATIENCE_S)
        line.connect(str(guarded.folder / "guard.sock"))
        with line.makefile("rb") as words:
            before = _next(words.readline)
            known = {(one.code, one.subject) for one in before.incident}
            begun_s = time.monotonic()
            break_it()
            while True:
                word = _next(words.readline)
                new = {(one.code, one.subject) for one in word.incident} - known
                if new and not word.open:
                    return (time.monotonic() - begun_s) * 1_000


def _next(readline: Callable[[int], bytes]) -> Word:
    line = readline(MAX_WORD_BYTES + 1)
    if not line:
        raise DemoError("edge-guard has ended")
    return parse(line.rstrip(b"\n"))
