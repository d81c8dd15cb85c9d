"""Reads an archive as an expert would: stock tools and text files, nothing of ours."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

from demo.check import find_bags


def payload_digests(archive: Path) -> Counter[str]:
    """Return how often each payload digest stands in the bags' manifests."""
    return Counter(
        line.split("  ", 1)[0]
        for bag in find_bags(archive)
        for line in (bag / "manifest-sha256.txt").read_text().splitlines()
    )


def refuse_bad_bags(archive: Path) -> int:
    """Verify every bag by sha256sum and by bagit.py; return how many there are."""
    bags = find_bags(archive)
    for bag in bags:
        for manifest in ("manifest-sha256.txt", "tagmanifest-sha256.txt"):
            checked = subprocess.run(
                ["sha256sum", "--quiet", "--strict", "-c", manifest],
                cwd=bag,
                capture_output=True,
                text=True,
                check=False,
            )
            assert checked.returncode == 0, f"{bag}: {checked.stdout}{checked.stderr}"
    validated = subprocess.run(
        [sys.executable, "-m", "bagit", "--quiet", "--validate", *map(str, bags)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert validated.returncode == 0, validated.stderr
    return len(bags)
