"""The demo's four recorders as folders with real footage, and what is on them.

The description is for a checker, which compares the archive with it.
Try it by hand: ``python -m demo.volumes --help``.
"""

import argparse
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from demo.footage import ClipShot, FootageError, Shot, make_footage
from demo.recorders import ZONE, PlannedFile, PlannedRecorder, Role, plan_recorders

MAKE: Final = "DSJ"
PULLED_RECORDER: Final = "R-0002"

_MARKER: Final = ".bayward-demo-volumes"
_DEFAULT_CACHE: Final = ".footage"


class TargetError(Exception):
    """The target holds something that this module did not make; nothing in it was touched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoFile:
    """One file on a volume; the path is relative to the volume, with slashes."""

    relative_path: str
    sha256: bytes
    size_bytes: int
    modified_utc: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoClip(DemoFile):
    """One video clip or photograph.

    Attributes:
        kind: ``video`` or ``photo``, as in the profiles.
        start: By the recorder's clock, aware.
        duration_s: 0 for a photograph.
        recording: Which activation of the recorder it belongs to, counted from 1 per volume.
        marked: The officer marked it as important.
        alias_of: The path of the marked clip with the same content, if there is one.
    """

    kind: str
    start: datetime
    duration_s: int
    recording: int
    marked: bool
    alias_of: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoVolume:
    """One recorder's volume, and what is on it.

    Attributes:
        folder: What stands for the mounted volume.
        recorder_id: Its number at the site; None for the recorder that nobody registered.
        other_files: Its own files that are no clips: log, track, thumbnail, device file.
        foreign_files: What does not belong on a recorder.
    """

    folder: Path
    recorder_id: str | None
    make: str
    model: str
    serial: str
    officer: str
    officer_name: str
    clips: tuple[DemoClip, ...]
    other_files: tuple[DemoFile, ...]
    foreign_files: tuple[DemoFile, ...]

    @property
    def files(self) -> tuple[DemoFile, ...]:
        """Every file on the volume."""
        return (*self.clips, *self.other_files, *self.foreign_files)

    @property
    def recordings(self) -> int:
        """How many activations of the recorder the clips come from."""
        return len({clip.recording for clip in self.clips})


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoVolumes:
    """All volumes of the demo; iterating gives the registered ones first."""

    registered: tuple[DemoVolume, ...]
    unregistered: DemoVolume

    def __iter__(self) -> Iterator[DemoVolume]:
        yield from self.registered
        yield self.unregistered

    def recorder(self, recorder_id: str) -> DemoVolume:
        """Return the volume of a registered recorder.

        Raises:
            KeyError: No volume is that recorder's.
        """
        return {volume.recorder_id: volume for volume in self.registered}[recorder_id]


def build_volumes(target: Path, cache: Path, *, today: date | None = None) -> DemoVolumes:
    """Build the demo's four volumes under *target*, anew, and describe them.

    R-0001 has one recording of three clips, a marked clip and its unmarked copy, a log, a track
    and a thumbnail. R-0002 is of another model and has one clip of 40 MB and a photograph. R-0003
    carries foreign files. The fourth recorder is on no register.

    Args:
        target: A folder that is new, empty, or was filled by this function before.
        cache: Where footage is kept between runs: see make_footage.
        today: The day of the demo where the recorders are; all footage is from the two days
            before it. None asks the clock.

    Raises:
        FootageError: ffmpeg is missing or failed.
        TargetError: The target holds other files.
    """
    recorders = plan_recorders(today or datetime.now(ZONE).date())
    _claim(target)
    shots = [
        file.content
        for recorder in recorders
        for file in recorder.files
        if not isinstance(file.content, bytes)
    ]
    footage = make_footage(shots, cache)
    *registered, unregistered = (_build(recorder, target, footage) for recorder in recorders)
    return DemoVolumes(registered=tuple(registered), unregistered=unregistered)


def _claim(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    marker = target / _MARKER
    # Building removes what stood there: never what somebody else put there.
    others = {entry.name for entry in target.iterdir()} - {_DEFAULT_CACHE}
    if others and not marker.exists():
        raise TargetError(f"{str(target)!r} is not empty and was not made by this program")
    marker.touch()


def _build(recorder: PlannedRecorder, target: Path, footage: Mapping[Shot, Path]) -> DemoVolume:
    folder = target / recorder.folder
    if folder.exists():
        shutil.rmtree(folder)
    made = [(file, _lay_down(file, folder, footage)) for file in recorder.files]
    return DemoVolume(
        folder=folder,
        recorder_id=recorder.recorder_id,
        make=MAKE,
        model=recorder.wearer.model,
        serial=recorder.wearer.serial,
        officer=recorder.wearer.officer,
        officer_name=recorder.officer_name,
        clips=tuple(_clip(plan, file) for plan, file in made if plan.role is Role.CLIP),
        other_files=tuple(file for plan, file in made if plan.role is Role.OTHER),
        foreign_files=tuple(file for plan, file in made if plan.role is Role.FOREIGN),
    )


def _lay_down(plan: PlannedFile, folder: Path, footage: Mapping[Shot, Path]) -> DemoFile:
    path = folder / plan.path
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(plan.content, bytes):
        path.write_bytes(plan.content)
    else:
        shutil.copyfile(footage[plan.content], path)
    seconds = plan.modified.timestamp()
    os.utime(path, (seconds, seconds))
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").digest()
    return DemoFile(
        relative_path=plan.path,
        sha256=digest,
        size_bytes=path.stat().st_size,
        modified_utc=plan.modified.astimezone(UTC),
    )


def _clip(plan: PlannedFile, file: DemoFile) -> DemoClip:
    if isinstance(plan.content, bytes):
        raise TypeError(f"{plan.path} is planned as a clip and has no shot")
    is_video = isinstance(plan.content, ClipShot)
    return DemoClip(
        relative_path=file.relative_path,
        sha256=file.sha256,
        size_bytes=file.size_bytes,
        modified_utc=file.modified_utc,
        kind="video" if is_video else "photo",
        start=plan.content.start,
        duration_s=plan.content.duration_s if isinstance(plan.content, ClipShot) else 0,
        recording=plan.recording,
        marked=plan.marked,
        alias_of=plan.alias_of,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo.volumes",
        description="Build the volumes of four recorders, with real footage, to try by hand.",
        epilog="example: python -m demo.volumes --target recorders --today 2026-11-23",
    )
    parser.add_argument(
        "--target", type=Path, required=True, help="folder for the volumes: new, or made by this"
    )
    parser.add_argument(
        "--cache", type=Path, help=f"folder that keeps footage (default: TARGET/{_DEFAULT_CACHE})"
    )
    parser.add_argument(
        "--today",
        type=date.fromisoformat,
        metavar="YYYY-MM-DD",
        help=f"footage is from the two days before this one (default: today in {ZONE.key})",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the volumes that the command line asks for, and list what is on them."""
    options = _parser().parse_args(arguments)
    cache = options.cache or options.target / _DEFAULT_CACHE
    try:
        volumes = build_volumes(options.target, cache, today=options.today)
    except (FootageError, TargetError) as error:
        print(f"demo.volumes: {error}", file=sys.stderr)
        return 1
    for volume in volumes:
        print(
            f"{volume.folder}: {volume.recorder_id or 'not registered'}, {volume.model} "
            f"{volume.serial}, {volume.officer} {volume.officer_name}"
        )
        for file in volume.files:
            print(f"  {file.sha256.hex()[:16]}  {file.size_bytes:>10,}  {file.relative_path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
