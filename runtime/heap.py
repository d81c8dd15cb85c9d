"""How the C library keeps memory that nobody uses any more: it gives it back to the machine."""

import ctypes
from typing import Final

# mallopt(3), of glibc.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8

_ARENAS: Final = 2
_LARGE_BYTES: Final = 128 * 1024


def keep_heaps_small() -> bool:
    """Let all threads share two heaps, and return what is large or on top when it is freed.

    By default each thread has a heap of its own, up to eight for each core, and what was large once
    stays. A dock has a few threads for each bay. To be called before there are threads.

    Returns:
        Whether the C library took it; those that are not glibc have no such settings.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = (
        (_ARENA_MAX, _ARENAS),
        (_MMAP_THRESHOLD, _LARGE_BYTES),
        (_TRIM_THRESHOLD, _LARGE_BYTES),
    )
    return all(bool(mallopt(which, value)) for which, value in settings)
