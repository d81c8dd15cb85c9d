"""What the bays of a dock in a guest show, and what its archive holds."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.hardware.machine import ANSWER_TIMEOUT_S, Machine


@dataclass(frozen=True, slots=True)
class Bays:
    """Asks the agent in the guest, over its own socket.

    Attributes:
        python: In the guest.
    """

    machine: Machine
    socket: Path
    python: str

    def now(self, number: int) -> dict[str, Any]:
        """Return what a bay shows."""
        ran = self.machine.run(self.python, "-c", _ASK, str(self.socket))
        assert ran.out, f"{ran.err}\n{self._logs()}"
        bays = json.loads(ran.out.splitlines()[-1])["bays"]
        found: dict[str, Any] = next(one for one in bays if one["bay"] == number)
        return found

    def until(
        self, number: int, condition: str, *, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> dict[str, Any]:
        """Return what a bay shows as soon as a condition holds, in Python and about ``bay``."""
        command = [self.python, "-c", _WAIT, str(self.socket), str(number), condition]
        ran = self.machine.run(*command, timeout_s=timeout_s)
        assert ran.status == 0, f"bay {number}: {condition}: {ran.out}{ran.err}\n{self._logs()}"
        found: dict[str, Any] = json.loads(ran.out.splitlines()[-1])
        return found

    def _logs(self) -> str:
        return self.machine.sh(
            "tail -n 15 /run/*.log || true; journalctl --no-pager -n 60 || true; dmesg | tail -n 20"
        )


def archived(machine: Machine, archive: Path) -> dict[str, int]:
    """Return the SHA-256 of all files in bags, each with how often it is there."""
    out = machine.sh(
        f"cd {archive} && find . -path ./.incoming -prune -o -path '*/data/*' -type f"
        " -print0 | xargs -0 -r sha256sum"
    )
    found: dict[str, int] = {}
    for line in out.splitlines():
        digest = line.split()[0]
        found[digest] = found.get(digest, 0) + 1
    return found


_READ: Final = """
import json, socket, sys
def snapshots(command):
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(sys.argv[1])
        line.sendall(json.dumps({"command": command}).encode() + b"\\n")
        with line.makefile("rb") as file:
            for one in file:
                yield json.loads(one)
"""
_ASK: Final = _READ + "print(json.dumps(next(snapshots('status'))))"
_WAIT: Final = (
    _READ
    + """
import collections
number, condition = int(sys.argv[2]), compile(sys.argv[3], "condition", "eval")
for snapshot in snapshots("watch"):
    bay = next(one for one in snapshot["bays"] if one["bay"] == number)
    bay = collections.defaultdict(int, bay)  # what is 0 is not told
    if eval(condition):
        print(json.dumps(bay), flush=True)
        break
"""
)
