"""Who copies the same recorders to the same disk: ours at each level, and the stock tools."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from bench.figures import cpu_s
from bench.ingest import Ingested
from bench.results import Evidence, ReadBack, Run
from demo.programs import DemoError, find_tool
from runtime.eviction import Eviction, evict

_ROOT: Final = Path(__file__).resolve().parent.parent
OCOPY: Final = _ROOT / ".venv/peers/bin/ocopy"
_TIMEOUT_S: Final = 900
# Both print the same lines. Each line is written at once: several programs share one list.
SHA256SUM: Final = "stdbuf -oL sha256sum"
_OPENSSL: Final = "stdbuf -oL openssl dgst -sha256 -r"
_MOST_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to bring recorders to a disk.

    Attributes:
        command: As a reader would type it.
        level: Of our own; None of a peer.
        run: Copies everything below the first folder to the second, which is empty.
    """

    name: str
    command: str
    evidence: Evidence
    run: Callable[[Path, Path], Run]
    level: str | None = None


def ours(level: str) -> Contender:
    """Return our own docking code at an evidence level."""
    read_back = ReadBack.NONE if level == "L1" else ReadBack.DISK

    def run(source: Path, target: Path) -> Run:
        folders = ("--source", str(source), "--staging", str(target))
        bays = str(sum(1 for _ in source.iterdir()))
        asked = ("--keep", "--bays", bays, "--level", level)
        command = [sys.executable, "-m", "bench.ingest", *asked, *folders]
        done = _run(command)
        found = msgspec.json.decode(done.stdout, type=Ingested)
        return Run(seconds=found.seconds, cpu_s=found.cpu_s, peak_bytes=found.peak_bytes)

    return Contender(
        name=f"Bayward {level}",
        command=f"python -m bench.ingest --level {level} --bays N --source DIR --staging DIR",
        evidence=_evidence(digest="SHA-256", read_back=read_back, journal=True),
        run=run,
        level=level,
    )


def peers() -> list[Contender]:
    """Return the stock tools; all end with a sync, so that all are on the disk."""
    rsync, rclone = find_tool("rsync"), find_tool("rclone")
    if not OCOPY.exists():
        raise DemoError("ocopy is not installed; run: scripts/venv peers")
    return [
        Contender(
            name="cp, sync",
            command="cp -r SOURCE TARGET; sync -f TARGET",
            evidence=_evidence(),
            run=_steps(lambda source, target: ["cp", "-r", f"{source}/.", str(target)]),
        ),
        Contender(
            name="rsync --fsync",
            command="rsync -rt --fsync SOURCE/ TARGET/; sync -f TARGET",
            evidence=_evidence(),
            run=_steps(
                lambda source, target: [rsync, "-rt", "--fsync", f"{source}/", f"{target}/"]
            ),
        ),
        Contender(
            name="rclone copy",
            command="rclone copy SOURCE TARGET; sync -f TARGET",
            evidence=_evidence(read_back=ReadBack.MEMORY),
            run=_steps(
                lambda source, target: [rclone, "--config=", "copy", str(source), str(target)]
            ),
        ),
        Contender(
            name="ocopy",
            command="ocopy SOURCE TARGET; sync -f TARGET",
            evidence=_evidence(digest="xxh64", read_back=ReadBack.MEMORY),
            run=_steps(lambda source, target: [str(OCOPY), str(source), str(target)]),
        ),
        _proved("cp, sync, evict, sha256sum", SHA256SUM),
        _proved("cp, sync, evict, openssl", _OPENSSL),
    ]


def _evidence(
    *,
    digest: str | None = None,
    read_back: ReadBack = ReadBack.NONE,
    journal: bool = False,
) -> Evidence:
    return Evidence(
        files_synced=True, names_synced=True, digest=digest, read_back=read_back, journal=journal
    )


def _steps(copy: Callable[[Path, Path], Sequence[str]]) -> Callable[[Path, Path], Run]:
    def run(source: Path, target: Path) -> Run:
        def work() -> None:
            _run(copy(source, target))
            _run(["sync", "--file-system", str(target)])

        return timed(work)

    return run


def _proved(name: str, hasher: str) -> Contender:
    return Contender(
        name=name,
        command=f"{hasher} SOURCE/* >SUMS & cp -r SOURCE TARGET; sync -f TARGET; evict;"
        f" {hasher} TARGET/* | cmp - SUMS",
        evidence=_evidence(digest="SHA-256", read_back=ReadBack.DISK),
        run=lambda source, target: timed(lambda: _copy_proved(source, target, hasher)),
    )


def _copy_proved(source: Path, target: Path, hasher: str) -> None:
    """Copy and prove as stock tools can: hash while copying, sync, drop from memory, hash again.

    The hashing runs beside the copying and on all cores, as somebody would do who is in a hurry.
    """
    wanted = target.with_name("SUMS")
    with ThreadPoolExecutor(max_workers=1) as beside:
        hashing = beside.submit(hash_files, source, wanted, hasher)
        _run(["cp", "-r", f"{source}/.", str(target)])
        hashing.result()
    _run(["sync", "--file-system", str(target)])
    _evict_below(target)
    compare_files(target, wanted, hasher)


def hash_files(folder: Path, listed: Path, hasher: str = SHA256SUM) -> None:
    """List the digests of all files below *folder*, hashed on all cores."""
    cores = os.cpu_count() or 1
    files = sum(1 for path in folder.rglob("*") if path.is_file())
    at_once = max(1, min(_MOST_AT_ONCE, files // (cores * 4)))
    listing = f'cd "$1"; find . -type f -print0 | xargs -0 -n {at_once} -P {cores} {hasher} >"$2"'
    _run(["bash", "-euo", "pipefail", "-c", listing, "bash", str(folder), str(listed)])


def compare_files(folder: Path, wanted: Path, hasher: str = SHA256SUM) -> None:
    """Hash what is below *folder* and compare it with a list.

    Raises:
        DemoError: Something differs, is missing or is too much.
    """
    found = wanted.with_name("SUMS.found")
    hash_files(folder, found, hasher)
    _run(["bash", "-c", 'cmp <(sort "$1") <(sort "$2")', "bash", str(wanted), str(found)])


def timed(work: Callable[[], None]) -> Run:
    """Return how long *work* took, and the processor time of this process and its children."""
    cpu_before_s, began_s = cpu_s(), time.perf_counter()
    work()
    return Run(seconds=time.perf_counter() - began_s, cpu_s=cpu_s() - cpu_before_s)


def _evict_below(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as opened:
                evicted = evict(opened.fileno(), size_bytes=path.stat().st_size)
            if evicted is not Eviction.PROVED:
                raise DemoError(f"{path} does not leave the memory: measure on another disk")


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, check=False, timeout=_TIMEOUT_S)
    if done.returncode:
        told = (done.stdout + done.stderr).decode(errors="replace")[-2000:]
        raise DemoError(f"{' '.join(command)} ended with {done.returncode}:\n{told}")
    return done
