"""Which files this process has open."""

import contextlib
from pathlib import Path


def open_below(folder: Path) -> set[str]:
    """Return the files below *folder* that are open, with or without a name."""
    paths: set[str] = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the look itself opens one, which is gone by now
            paths.add(str(descriptor.readlink()))
    return {path for path in paths if path.startswith(f"{folder}/")}
