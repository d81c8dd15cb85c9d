"""Single figures with names and units, printed as they are measured."""

import resource
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

MIB: Final = 1 << 20
GIB: Final = 1 << 30
RATIO: Final = "×"


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured value.

    Attributes:
        ours: False for a peer, measured in the same run.
        note: What the figure leaves out or what evidence a peer lacks.
    """

    name: str
    value: float
    unit: str
    ours: bool = True
    note: str = ""


@dataclass(slots=True, kw_only=True)
class Report:
    """All single figures of one run."""

    figures: list[Figure] = field(default_factory=list)

    def add(self, name: str, value: float, unit: str, *, ours: bool = True, note: str = "") -> None:
        """Keep and print one figure."""
        self.figures.append(Figure(name=name, value=value, unit=unit, ours=ours, note=note))
        who = "ours" if ours else "peer"
        shown = f"{value:.2f}" if unit == RATIO else f"{value:,.1f}"
        print(f"  {who}  {name:<48} {shown:>10} {unit:<6} {note}".rstrip(), flush=True)

    def value(self, name: str) -> float:
        """Return the value of the figure called *name*."""
        return next(figure.value for figure in self.figures if figure.name == name)


def peak_memory_bytes(pid: int) -> int:
    """Return the most memory that a running process ever held (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def cpu_s() -> float:
    """Return the processor time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
