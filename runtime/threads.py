"""Threads that say by an OSError that the system has none left."""

import errno
import threading
from collections.abc import Callable


def started(target: Callable[[], None], name: str) -> threading.Thread:
    """Start a thread.

    Raises:
        OSError: With EAGAIN: the system has none left.
    """
    thread = threading.Thread(target=target, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, str(error)) from error
    return thread
