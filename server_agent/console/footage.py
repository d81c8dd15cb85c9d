"""From what the catalogue says to a file that may be played: strictly below the archive's root."""

import os
import stat
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Final

from server_agent.console.errors import FootagePathError

# What browsers play by themselves; the type is ours, never guessed from the content. No SVG, no
# HTML: nothing that could run.
PLAYABLE: Final = MappingProxyType(
    {
        ".mp4": "video/mp4",
        ".m4v": "video/mp4",
        ".mov": "video/mp4",
        ".webm": "video/webm",
        ".mp3": "audio/mpeg",
        ".m4a": "audio/mp4",
        ".aac": "audio/aac",
        ".wav": "audio/wav",
        ".ogg": "audio/ogg",
        ".jpg": "image/jpeg",
        ".jpeg": "image/jpeg",
        ".png": "image/png",
    }
)


def media_type(safe_name: str) -> str | None:
    """Return the type that a browser plays a file as, by its name; None if it does not."""
    return PLAYABLE.get(PurePosixPath(safe_name).suffix.lower())


def components(bag_path: str, safe_name: str) -> tuple[str, ...]:
    """Return the steps from the archive's root to a bag's payload file.

    Raises:
        FootagePathError: A step would lead elsewhere.
    """
    path = PurePosixPath(bag_path, "data", safe_name)
    steps = tuple(f"{bag_path}/data/{safe_name}".split("/"))
    if any(step in {"", ".", ".."} or "\0" in step or "\\" in step for step in steps):
        raise FootagePathError(path, problem="leads out of its bag")
    return steps


def locate(root: Path, bag_path: str, safe_name: str) -> Path:
    """Return the file of a bag that is about to be played.

    Args:
        root: The archive's root; it may be a link, nothing below it may.
        bag_path: Relative to the root, from the catalogue.
        safe_name: Below ``data/``, from the catalogue.

    Raises:
        FootagePathError: It leads out of its bag, goes through a link, or is no plain file.
        OSError: Our own disk failed, or the file is missing.
    """
    steps = components(bag_path, safe_name)
    found = root
    for number, step in enumerate(steps, start=1):
        found /= step
        mode = os.lstat(found).st_mode
        wanted = stat.S_ISREG if number == len(steps) else stat.S_ISDIR
        if not wanted(mode):
            problem = f"{step!r} is a {stat.filemode(mode)[0]!r} file"
            raise FootagePathError(PurePosixPath(*steps), problem=problem)
    return found
