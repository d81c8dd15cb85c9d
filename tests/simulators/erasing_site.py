"""A machine whose edge-mount may erase, an archive that signs, and a recorder's card."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.adapters.usb_tree import BlockDevice
from edge_agent.mounting.messages import Erased, Progress, Reply
from protocol.keys import SigningKey
from protocol.registry import Erasing
from tests.simulators.edge_mount import Mounting
from tests.simulators.erasures import (
    AFTER_RECEIPT,
    DOCKING,
    Files,
    Pair,
    manifest_of,
    proof_file,
    registry_of,
    with_receipt,
)
from tests.simulators.loop_disks import ext4_image, run

CLIPS = {b"DCIM/1.MP4": b"first" * 100_000, b"DCIM/2.MP4": b"second" * 100_000}
SETTINGS = {b"SYSTEM/DEVICE.TXT": b"serial=1"}
EVERYTHING = {**CLIPS, **SETTINGS}
ALL_ERASED = Erased(files=2, size_bytes=sum(map(len, CLIPS.values())))
NOTHING = Erased()


@dataclass(kw_only=True)
class Site:
    """edge-mount on a machine that may erase, and an archive that signs."""

    mounting: Mounting
    archive_key: SigningKey

    def receipt(self, *args: Any, **kwargs: Any) -> Pair:
        """Return a manifest and its receipt; arguments as of `manifest_of`."""
        return with_receipt(manifest_of(*args, **kwargs), key=self.archive_key)

    def erase(
        self,
        *pairs: Pair,
        erasing: Erasing = AFTER_RECEIPT,
        seen: list[Progress] | None = None,
    ) -> Reply:
        """Ask for it as edge-agent does."""

        def go_on(progress: Progress) -> bool:
            if seen is not None:
                seen.append(progress)
            return True

        registry = registry_of(erasing, key=self.archive_key)
        with proof_file(*pairs, registry=registry) as fd:
            return self.mounting.client(1).erase(DOCKING, fd, go_on)

    def content(self) -> Files:
        """Return what edge-agent can read in bay 1."""
        root = self.mounting.seen(self.mounting.bays / "1")
        return content_of(root)


def content_of(bay: Path) -> Files:
    """Return all files of a bay's volumes; those of the second are below ``volume-2``."""
    found: dict[bytes, bytes] = {}
    for volume in sorted(bay.glob("[1-8]")):
        prefix = "" if volume.name == "1" else f"volume-{volume.name}/"
        for path in volume.rglob("*"):
            if path.is_file():
                found[os.fsencode(f"{prefix}{path.relative_to(volume)}")] = path.read_bytes()
    return found


def card(folder: Path, files: Files, *, size_bytes: int = 16 << 20) -> Path:
    """Make a disk that holds *files*."""
    tree = folder / "tree"
    for path, content in files.items():
        target = tree / os.fsdecode(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return ext4_image(folder / "card", tree, size_bytes=size_bytes)


def is_read_only(disk: BlockDevice) -> bool:
    """Return whether the kernel lets nobody write to a disk."""
    return run("blockdev", "--getro", f"/dev/{disk.name}").strip() == "1"
