"""One agent for one journal: two would give the same number to two manifests."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from edge_agent.errors import AgentRunningError


@contextlib.contextmanager
def hold_lock(journal: Path) -> Iterator[None]:
    """Be the only agent of *journal* for the length of the block; the kernel lets go after a crash.

    Raises:
        AgentRunningError: Another agent holds it.
        OSError: The file beside the journal cannot be made.
    """
    path = journal.with_name(f"{journal.name}.lock")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AgentRunningError(f"another agent uses {journal}") from None
        yield
    finally:
        os.close(fd)
