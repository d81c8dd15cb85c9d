"""What others need to send and to archive the same bytes, on the same disk, in the same run."""

import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.figures import MIB, Report

_CHUNK_BYTES: Final = MIB


def timed(work: Callable[[], object]) -> float:
    """Return how many seconds *work* took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def evict(path: Path) -> None:
    """Drop a clean file from the page cache, so that the next reader reads the disk."""
    with path.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _run(*arguments: str) -> None:
    subprocess.run(arguments, check=True, capture_output=True)


def archiving_peer(report: Report, source: Path, work: Path) -> None:
    """Measure bagit-python making a bag of *source* in place, and validating it."""
    bag = work / "bag"
    bag.mkdir()
    os.link(source, bag / source.name)
    size_mib = source.stat().st_size / MIB
    evict(source)
    bagit = [sys.executable, "-m", "bagit", "--quiet"]
    making = timed(lambda: _run(*bagit, "--sha256", str(bag)))
    evict(bag / "data" / source.name)
    checking = timed(lambda: _run(*bagit, "--validate", str(bag)))
    note = "in place, nothing synced"
    report.add("archiving: bagit.py, make", size_mib / making, "MiB/s", ours=False, note=note)
    total = size_mib / (making + checking)
    report.add("archiving: bagit.py, make + validate", total, "MiB/s", ours=False, note=note)
    shutil.rmtree(bag)


def transfer_peer(
    report: Report, source: Path, work: Path, server: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    """Measure a bare blocking TLS stream: read, send, receive, SHA-256, write, one fsync."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    size_bytes = source.stat().st_size

    def receive() -> None:
        raw, _ = listener.accept()
        digest = hashlib.sha256()
        with server.wrap_socket(raw, server_side=True) as stream, (work / "sent").open("wb") as out:
            buffer = bytearray(_CHUNK_BYTES)
            view = memoryview(buffer)
            left = size_bytes
            while left and (count := stream.recv_into(buffer)):
                digest.update(view[:count])
                out.write(view[:count])
                left -= count
            out.flush()
            os.fsync(out.fileno())
            stream.sendall(digest.digest())

    def send() -> None:
        raw = socket.create_connection(("127.0.0.1", port))
        with client.wrap_socket(raw, server_hostname="127.0.0.1") as stream:
            with source.open("rb") as opened:
                while chunk := opened.read(_CHUNK_BYTES):
                    stream.sendall(chunk)
            if len(stream.recv(64)) != hashlib.sha256().digest_size:
                raise ConnectionError("the receiver ended early")

    evict(source)
    receiver = threading.Thread(target=receive)
    receiver.start()
    seconds = timed(send)
    receiver.join()
    listener.close()
    (work / "sent").unlink()
    rate = size_bytes / MIB / seconds
    note = "one stream, not resumable"
    report.add("upload: bare TLS + SHA-256 + fsync", rate, "MiB/s", ours=False, note=note)
