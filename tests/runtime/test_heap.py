import subprocess
import sys

_PROGRAM = """
from pathlib import Path
from runtime.heap import keep_heaps_small

def resident_pages():
    return int(Path("/proc/self/statm").read_text().split()[1])

def fill():
    small = []
    blocks = []
    for _ in range(256):
        blocks.append(b"x" * (256 * 1024))
        small.append(b"x" * 1024)
    return blocks, small

assert keep_heaps_small()
before = resident_pages()
fill()  # what is freed for the first time teaches the C library to keep it
blocks, small = fill()
grown = resident_pages() - before
del blocks
print(grown, resident_pages() - before)
"""


def test_what_is_large_goes_back_to_the_machine() -> None:
    """Of 64 MiB that a program had and freed, nearly nothing is its own afterwards."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], check=True, capture_output=True, text=True
    )
    grown, left = map(int, done.stdout.split())
    assert grown > 10_000
    assert left < grown // 4
