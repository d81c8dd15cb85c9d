import os
from collections.abc import Iterator
from typing import Final

# Above 1 MiB, serial reads fall out of the processor's second-level cache.
CHUNK_BYTES: Final = 1 << 20


def read_chunks(fd: int, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[memoryview]:
    """Read an open file from where it stands to its end.

    All chunks share one buffer: a chunk holds until the next one is asked for, and whoever wants
    to keep its bytes copies them. The descriptor stays open.

    Args:
        fd: Open for reading.
        chunk_bytes: The most that one chunk holds, >= 1.

    Returns:
        Chunks of 1 to *chunk_bytes* bytes, in file order.

    Raises:
        OSError: The disk, or the device that the file is on, failed.
    """
    buffer = memoryview(bytearray(chunk_bytes))
    while read_bytes := os.readv(fd, [buffer]):
        yield buffer[:read_bytes]
