"""What a test holds of a mounted fault file system."""

import contextlib
import errno
import json
import socket
import subprocess
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from tests.simulators.faultfs.rules import MUTATING, Effect, Operation, Traced

_ROOT: Final = Path(__file__).parents[3]
_PYTHON: Final = "/usr/bin/python3"  # Debian's own: python3-pyfuse3 is built for it
_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How often a rule's operations came, and how often it hit."""

    met: int
    hits: int


class FaultDisk:
    """A mount, and what is to go wrong on it. Every method may be called from any thread.

    Attributes:
        root: The mount point.
    """

    def __init__(self, root: Path, orders: BinaryIO, answers: BinaryIO) -> None:
        self.root = root
        self._orders = orders
        self._answers = answers
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Empty the disk, forget rules and trace; every open descriptor is dead."""
        self._ask("reset")

    def crash(self, *, torn: int | None = None) -> None:
        """Take the power away: everything fails until `restart`.

        Args:
            torn: The seed by which some of what was not synced survives; None: nothing does.
        """
        self._ask("crash", seed=torn)

    def restart(self) -> None:
        """Give the power back: what is durable is there, and no rule is left."""
        self._ask("restart")

    def crash_at(
        self,
        number: int,
        *,
        happens: bool,
        operations: Collection[Operation] = MUTATING,
        path: str = "*",
        torn: int | None = None,
    ) -> int:
        """Take the power away at one of the operations to come.

        Args:
            number: At which of those that match, from 0.
            happens: Whether the operation itself does; its caller gets EIO in any case.
            operations: Which count.
            path: As in `fail`.
            torn: As in `crash`.
        """
        effect = Effect.CRASH_AFTER if happens else Effect.CRASH_BEFORE
        return self.fault(effect, operations, path=path, skip=number, value=torn)

    def fail(
        self,
        *operations: Operation,
        path: str = "*",
        skip: int = 0,
        times: int | None = 1,
        error: int = errno.EIO,
    ) -> int:
        """Let operations fail; return the rule's number for `count`."""
        return self.fault(Effect.ERROR, operations, path=path, skip=skip, times=times, value=error)

    def fault(
        self,
        effect: Effect,
        operations: Collection[Operation],
        *,
        path: str = "*",
        skip: int = 0,
        times: int | None = 1,
        value: int | None = None,
    ) -> int:
        """Add a rule (see `rules.Rule`); return its number for `count`."""
        rule = {
            "operations": sorted(operations),
            "effect": effect,
            "path": path,
            "skip": skip,
            "times": times,
            "value": value,
        }
        return int(self._ask("rule", rule=rule))

    def count(self, rule: int) -> Count:
        """Return how a rule fared."""
        met, hits = self._ask("counts")[rule]
        return Count(met=met, hits=hits)

    def clear_rules(self) -> None:
        """Let nothing go wrong any more; what stalls goes on."""
        self._ask("clear rules")

    def release(self) -> None:
        """Let what stalls go on; nothing stalls again."""
        self._ask("release")

    def set_disk(self, **settings: int | bool | None) -> None:
        """Set `rules.Disk`'s attributes: capacities, shown_free_bytes, read_only."""
        self._ask("disk", settings=settings)

    @property
    def is_down(self) -> bool:
        """Whether the power is away."""
        return bool(self._ask("state")["down"])

    @property
    def stalled(self) -> int:
        """How many operations wait for `release`."""
        return int(self._ask("state")["stalled"])

    def trace(self) -> list[Traced]:
        """Return every operation since `reset` or `clear_trace`."""
        return [Traced.parse(message) for message in self._ask("trace")]

    def mutations(self) -> list[Traced]:
        """Return the trace without what changes nothing: at each of these a crash makes sense."""
        return [traced for traced in self.trace() if traced.operation in MUTATING]

    def clear_trace(self) -> None:
        """Begin the trace anew."""
        self._ask("clear trace")

    def _ask(self, command: str, **arguments: Any) -> Any:
        message = json.dumps({"do": command, **arguments}).encode()
        with self._lock:
            self._orders.write(message + b"\n")
            self._orders.flush()
            return json.loads(self._answers.readline())


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[FaultDisk]:
    """Mount an empty fault file system below *folder* for the length of the block.

    Needs root, ``/dev/fuse`` and Debian's python3-pyfuse3.
    """
    root, socket_path = folder / "disk", folder / "control"
    root.mkdir()
    command = [_PYTHON, "-m", f"{__package__}.server", str(root), str(socket_path)]
    with subprocess.Popen(
        command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            if server.stdout.readline() != b"mounted\n":
                raise RuntimeError("the fault file system did not mount; see its standard error")
            with socket.socket(socket.AF_UNIX) as control:
                control.settimeout(_TIMEOUT_S)
                control.connect(str(socket_path))
                with (
                    control.makefile("wb") as orders,
                    control.makefile("rb") as answers,
                ):
                    yield FaultDisk(root, orders, answers)
        finally:
            server.stdin.close()
            try:
                server.wait(_TIMEOUT_S)
            finally:
                server.kill()
                # Nothing if it has unmounted itself.
                subprocess.run(["umount", "--lazy", root], check=False, capture_output=True)
