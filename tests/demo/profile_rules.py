"""The demo's profiles as the schema defines them, read the plainest way."""

import fnmatch
import re
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any, Final

PROFILES: Final = Path(__file__).resolve().parents[2] / "profiles"


def profile(name: str) -> dict[str, Any]:
    return tomllib.loads((PROFILES / f"{name}.toml").read_text("utf-8"))


def names() -> list[str]:
    return sorted(file.stem for file in PROFILES.glob("*.toml"))


def detects(rules: dict[str, Any], relative_path: str) -> bool:
    """Say whether a glob fits, component by component, upper and lower case alike."""
    parts = PurePosixPath(relative_path.lower()).parts
    globs = [PurePosixPath(glob.lower()).parts for glob in rules["detect"]]
    return any(
        len(glob) == len(parts) and all(map(fnmatch.fnmatchcase, parts, glob)) for glob in globs
    )


def matched(rules: dict[str, Any], relative_path: str) -> tuple[str, re.Match[str]] | None:
    """Return the kind and the match of the first clip rule that fits."""
    for clip in rules["clips"]:
        match = re.match(clip["pattern"], relative_path)
        if match is not None:
            return clip["kind"], match
    return None
