"""The dock's status as a table for a terminal."""

import unicodedata
from typing import Final

from edge_agent.adapters.control_socket import Snapshot
from protocol.messages import BayMessage, BayState

_BAR_CELLS: Final = 16
_HEADINGS: Final = ("bay", "state", "recorder", "progress", "files", "MiB", "MiB/s", "left", "")
_READ: Final = frozenset({BayState.SEALED, BayState.ERASING, BayState.RELEASABLE})
_NEEDS_A_PERSON: Final = frozenset({BayState.QUARANTINED, BayState.ATTENTION})
_SECONDS_IN_MINUTE: Final = 60


def needs_attention(snapshot: Snapshot) -> bool:
    """Return whether a person has to look at something."""
    return (
        not snapshot.dock.online
        or snapshot.dock.refused_manifests > 0
        or snapshot.unhandled_messages > 0
        or snapshot.orphaned_files > 0
        or any(bay.state in _NEEDS_A_PERSON or bay.problem for bay in snapshot.bays)
    )


def render_status(snapshot: Snapshot) -> str:
    """Return the table, and below it what is true of the dock as a whole."""
    rows = [_HEADINGS, *(_row(bay) for bay in snapshot.bays)]
    widths = [max(_width(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = [
        "  ".join(_padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("─" * width for width in widths[:-1]))
    return "\n".join([*lines, "", *_footer(snapshot)])


def _row(bay: BayMessage) -> tuple[str, ...]:
    docked = bay.docking_id is not None
    reading = bay.state is BayState.INGESTING
    who = bay.recorder or " ".join(part for part in (bay.model, bay.serial) if part)
    return (
        str(bay.bay),
        bay.state.value,
        printable(who),
        _bar(bay) if docked else "",
        f"{bay.files_done}/{bay.files_total}" if docked else "",
        f"{_mib(bay.bytes_done)}/{_mib(bay.bytes_total)}" if docked else "",
        _mib(bay.rate_bytes_s) if reading else "",
        _duration(bay.remaining_s) if reading else "",
        _note(bay),
    )


def _note(bay: BayMessage) -> str:
    if bay.problem:
        return f"{bay.problem}: {printable(bay.problem_text or '')}"
    if bay.state is BayState.INGESTING and bay.current_file:
        return printable(bay.current_file)
    if bay.erasing_percent is not None:
        return f"read once more before it is erased: {bay.erasing_percent} %"
    notes = {"erased": bay.erased_files, "findings": bay.findings}
    return ", ".join(f"{count} {what}" for what, count in notes.items() if count)


def _footer(snapshot: Snapshot) -> list[str]:
    dock = snapshot.dock
    link = "connected" if dock.online else "not connected"
    since = dock.since.strftime("%Y-%m-%d %H:%M:%S UTC")
    lines = [
        f"{dock.dock}: {link} since {since}" if dock.online else f"{dock.dock}: {link}",
        f"registry: {f'version {dock.registry_version}' if dock.registry_version else 'none yet'}",
        f"manifests: {dock.pending_manifests} without receipt, {dock.refused_manifests} refused",
        f"files: {snapshot.uploads_waiting} to send, {dock.held_files} held",
        f"staging: {_mib(dock.staging_free_bytes)} MiB free",
    ]
    if snapshot.unhandled_messages:
        lines.append(f"unhandled messages: {snapshot.unhandled_messages}")
    if snapshot.orphaned_files:
        lines.append(f"staged copies that the journal does not know: {snapshot.orphaned_files}")
    if snapshot.problem:
        lines.append(f"problem: {printable(snapshot.problem)}")
    return lines


def _bar(bay: BayMessage) -> str:
    if bay.bytes_total:
        share = min(1.0, bay.bytes_done / bay.bytes_total)
    else:
        share = 1.0 if bay.state in _READ else 0.0
    full = int(share * _BAR_CELLS)
    return f"{'█' * full}{'░' * (_BAR_CELLS - full)} {int(share * 100):3d} %"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):.1f}"


def _duration(seconds: int | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(seconds, _SECONDS_IN_MINUTE)
    return f"{minutes}:{rest:02d}"


def printable(untrusted: str) -> str:
    """Return *untrusted* without anything that could steer a terminal."""
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in untrusted
    )


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))
