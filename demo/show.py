"""What the demo prints: a live table in a terminal, plain lines without one."""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from demo.check import ArchivedClip
from protocol.messages import BayMessage, BayState

_MIB: Final = 1 << 20
_DIGEST_SHOWN: Final = 16
_STEPS: Final = 4

_LOOK: Final[Mapping[BayState, tuple[str, str, str]]] = {
    BayState.EMPTY: ("○", "dim", "empty"),
    BayState.IDENTIFYING: ("◌", "cyan", "who is it?"),
    BayState.INGESTING: ("▶", "bold blue", "reading"),
    BayState.SEALED: ("↑", "magenta", "manifest sealed, uploading"),
    BayState.ERASING: ("⌫", "magenta", "archived, being erased"),
    BayState.RELEASABLE: ("✔", "bold green", "archived, may be taken"),
    BayState.QUARANTINED: ("✖", "bold red", "refused"),
    BayState.ATTENTION: ("!", "bold yellow", "needs attention"),
}


def size_text(size_bytes: int) -> str:
    """Return a size as people read it."""
    return f"{size_bytes / _MIB:.1f} MiB" if size_bytes >= _MIB else f"{size_bytes / 1024:.1f} KiB"


class Show(AbstractContextManager["Show"]):
    """Follows bays; in a terminal as a table that moves, else as a line for each step."""

    def __init__(self, *, plain: bool) -> None:
        self.console = Console(highlight=False, soft_wrap=plain)
        self.plain = plain or not self.console.is_terminal
        self._bays: dict[int, BayMessage] = {}
        self._said: dict[int, tuple[object, ...]] = {}
        self._live = Live(console=self.console, refresh_per_second=8, transient=False)
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        """Begin to draw."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last picture standing."""
        self._live.stop()

    def step(self, text: str) -> None:
        """Say one line about what happens now."""
        passed_s = time.monotonic() - self._began
        self.console.print(f"[dim]{passed_s:6.1f} s[/dim]  {text}")

    def bay(self, message: BayMessage) -> None:
        """Show a bay as it is now."""
        self._bays[message.bay] = message
        if self.plain:
            self._say(message)
        else:
            if not self._live.is_started:
                self._live.start()
            self._live.update(self._table())

    def stop_moving(self) -> None:
        """Draw no more; the last table stays."""
        self._live.stop()

    def _say(self, message: BayMessage) -> None:
        share = message.bytes_done * _STEPS // message.bytes_total if message.bytes_total else 0
        said = (message.state, message.recorder, share)
        if self._said.get(message.bay) == said:
            return
        self._said[message.bay] = said
        _, _, word = _LOOK[message.state]
        facts = [f"bay {message.bay}", str(message.recorder or message.serial or "—"), word]
        if message.bytes_total:
            facts.append(f"{size_text(message.bytes_done)} of {size_text(message.bytes_total)}")
        if message.problem:
            facts.append(f"{message.problem}: {message.problem_text}")
        self.step(" · ".join(facts))

    def _table(self) -> Table:
        table = Table(title="Dock dock-01", title_justify="left", expand=False)
        for column in ("bay", "state", "recorder", "files", "read", "", "rate", "note"):
            table.add_column(column)
        for number in sorted(self._bays):
            message = self._bays[number]
            sign, style, word = _LOOK[message.state]
            rate = f"{message.rate_bytes_s / _MIB:.0f} MiB/s" if message.rate_bytes_s else ""
            note = f"{message.problem} {message.problem_text}" if message.problem else ""
            table.add_row(
                str(number),
                Text(f"{sign} {word}", style=style),
                str(message.recorder or message.serial or ""),
                f"{message.files_done}/{message.files_total}" if message.files_total else "",
                size_text(message.bytes_done) if message.bytes_total else "",
                ProgressBar(total=message.bytes_total, completed=message.bytes_done, width=20)
                if message.bytes_total
                else "",
                rate,
                Text(note, style="yellow"),
            )
        return table

    def result(self, rows: Sequence[ArchivedClip]) -> None:
        """Print where everything went."""
        self.stop_moving()
        table = Table(title="What was archived, and where", title_justify="left")
        for column in ("recorder", "file", "bytes", "sha-256", "bag in the archive", "receipt"):
            table.add_column(column, overflow="fold")
        for row in rows:
            name = Path(row.path).name + (f"\n({row.note})" if row.note else "")
            table.add_row(
                row.recorder_id,
                name,
                f"{row.size_bytes:,}",
                row.sha256[:_DIGEST_SHOWN] + "…",
                row.bag,
                row.receipt_id,
            )
        if self.plain:
            for row in rows:
                note = f" ({row.note})" if row.note else ""
                self.console.print(
                    f"{row.recorder_id}  {row.path}{note}  {row.size_bytes} bytes  {row.sha256}  "
                    f"{row.bag}  receipt {row.receipt_id}",
                    markup=False,
                )
        else:
            self.console.print(table)
