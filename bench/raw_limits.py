"""What the disk, the cores and the sources can do: fio and OpenSSL, in the same run."""

import hashlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.figures import MIB
from bench.results import Limits
from demo.programs import DemoError, find_tool

_FIO: Final = (
    *("--direct=1", "--ioengine=libaio", "--bs=1M", "--iodepth=16"),
    *("--end_fsync=1", "--output-format=json"),
)
_TIMEOUT_S: Final = 300
_HASHED_S: Final = 0.3


def measure_limits(work: Path, source: Path, *, probe_bytes: int) -> Limits:
    """Measure the disk of *work*, the cores, and reading the file *source*.

    Args:
        work: A folder on the disk that staging uses.
        source: A file where the sources are.
        probe_bytes: How much is written to the disk and read from it.
    """
    first, second = work / "probe-1", work / "probe-2"
    size = f"--size={probe_bytes}"
    try:
        # The first write makes the file, as staging does; the read then finds real blocks.
        write = _fio(f"--name=w --filename={first} --rw=write {size}")["write"]
        read = _fio(f"--name=r --filename={first} --rw=read {size}")["read"]
        mixed = _fio(
            f"--name=r --filename={first} --rw=read {size} "
            f"--name=w --filename={second} --rw=write {size}"
        )
    finally:
        first.unlink(missing_ok=True)
        second.unlink(missing_ok=True)
    return Limits(
        write_bytes_s=write,
        read_bytes_s=read,
        mixed_bytes_s=mixed["read"] + mixed["write"],
        hash_bytes_s=_hash_rate("sha256", threads=os.cpu_count() or 1),
        hash_core_bytes_s=_hash_rate("sha256", threads=1),
        sm3_core_bytes_s=_hash_rate("sm3", threads=1),
        source_bytes_s=_read_rate(source),
    )


def fio_command(jobs: str) -> list[str]:
    """Return the command line that measures some jobs; options of all jobs stand first."""
    return [find_tool("fio"), *_FIO, *jobs.split()]


def _fio(jobs: str) -> dict[str, float]:
    done = subprocess.run(
        fio_command(jobs), capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
    )
    if done.returncode:
        raise DemoError(f"fio ended with {done.returncode}: {done.stderr}{done.stdout}")
    # fio prints notes before its JSON.
    done_jobs = json.loads(done.stdout[done.stdout.index("{") :])["jobs"]
    return {way: float(sum(job[way]["bw_bytes"] for job in done_jobs)) for way in ("read", "write")}


def _hash_rate(algorithm: str, *, threads: int) -> float:
    """Return how many bytes a second some threads hash together, each on a buffer of its own."""
    hashed: list[int] = []

    def keep_hashing(until_s: float) -> None:
        buffer, digest, count = os.urandom(MIB), hashlib.new(algorithm), 0
        while time.perf_counter() < until_s:
            digest.update(buffer)  # lets other threads run
            count += MIB
        hashed.append(count)

    return _together(keep_hashing, threads, hashed)


def _together(work: Callable[[float], None], threads: int, done: list[int]) -> float:
    began_s = time.perf_counter()
    running = [
        threading.Thread(target=work, args=(began_s + _HASHED_S,), name=f"hashing {number}")
        for number in range(threads)
    ]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(done) / (time.perf_counter() - began_s)


def _read_rate(source: Path) -> float:
    buffer = bytearray(MIB)
    total_bytes = 0
    with source.open("rb", buffering=0) as opened:
        began_s = time.perf_counter()
        while count := opened.readinto(buffer):
            total_bytes += count
        return total_bytes / (time.perf_counter() - began_s)
