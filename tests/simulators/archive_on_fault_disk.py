"""An archive on a disk that loses power, what it acknowledged, and whether that is still there."""

import contextlib
import hashlib
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from protocol.digest import sha256_hex
from protocol.receipt import Receipt
from server_agent.adapters.uploads import Asking, Body, UploadRefusedError
from server_agent.errors import ServerError
from server_agent.intake.offsets import Creation, UploadFault
from tests.simulators.archive_site import ArchiveSite
from tests.simulators.claims import Claim
from tests.simulators.faultfs.mount import FaultDisk
from tests.simulators.intake_bench import IntakeBench

_CHUNK_BYTES: Final = 6_000
# What a program hears of a disk, as it is or as the layer above tells it.
DISK_FAILURES: Final = (OSError, SQLAlchemyError, ServerError)


@dataclass(slots=True, kw_only=True)
class Acknowledged:
    """What a dock was told, and relies on from then on.

    Attributes:
        offsets: The highest offset of each content, by digest, and its first bytes up to there.
        manifests: Ids of admitted manifests.
        receipts: Of whole manifests.
    """

    offsets: dict[str, bytes] = field(default_factory=dict)
    manifests: set[str] = field(default_factory=set)
    receipts: list[Receipt] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class FaultyArchive:
    """A site whose archive and catalogue are on *disk*, once laid down there.

    Attributes:
        told: What docks rely on.
        failure: Why the last delivery did not get through.
    """

    template: ArchiveSite
    disk: FaultDisk
    told: Acknowledged = field(default_factory=Acknowledged)
    failure: Exception | None = None

    @property
    def site(self) -> ArchiveSite:
        return replace(self.template, root=self.disk.root / "site")

    def lay_down(self) -> None:
        """Empty the disk, and put the site there, durably."""
        self.disk.reset()
        shutil.copytree(self.template.root, self.site.root)
        for path in (*self.site.root.rglob("*"), self.site.root, self.disk.root):
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        self.told = Acknowledged()
        self.disk.clear_trace()

    async def deliver(self, claim: Claim, *, then_cut: bool = False) -> bool:
        """Start the archive, let a dock deliver all of a claim, stop it again.

        What was acknowledged is noted.

        Args:
            claim: Whatever of it the archive still misses is uploaded.
            then_cut: Take the power away in place of stopping.

        Returns:
            Whether nothing failed.
        """
        bench, self.failure = IntakeBench(self.site), None
        try:
            # Each alarm about a failing disk has a long trace that nobody reads.
            with structlog.testing.capture_logs():
                await self._deliver(bench, claim)
        except DISK_FAILURES as error:
            self.failure = error
            return False
        finally:
            said = bench.last.get(claim.manifest.manifest_id)
            if said is not None:
                self.told.manifests.add(claim.manifest.manifest_id)
            if isinstance(said, Receipt):
                self.told.receipts.append(said)
            came_through = not self.disk.is_down
            if then_cut and came_through:
                self.disk.crash()
            with contextlib.suppress(*DISK_FAILURES):
                await bench.stop()
        return came_through

    def power_cut(self, *, torn: int | None = None) -> None:
        """Cut the power, if it has not gone yet, and bring it back."""
        if not self.disk.is_down:
            self.disk.crash(torn=torn)
        self.disk.restart()

    async def _deliver(self, bench: IntakeBench, claim: Claim) -> None:
        await bench.start()
        await bench.publish([claim])
        for digest in bench.missing(claim):
            await self._upload(bench, claim, claim.contents[digest])
        await bench.archive()

    async def _upload(self, bench: IntakeBench, claim: Claim, content: bytes) -> None:
        try:
            await self._send(bench, claim, content)
        except UploadRefusedError as error:
            if error.fault.kind is not UploadFault.DIGEST_DIFFERS:
                raise
            # Behind what was told, a torn file had bytes that nobody sent.
            await self._send(bench, claim, content)

    async def _send(self, bench: IntakeBench, claim: Claim, content: bytes) -> None:
        """Send a file in two requests, each from where the archive says that it stands."""
        asking = Asking(dock=claim.manifest.dock, cut_off=lambda: None)
        digest = sha256_hex(content)
        creation = Creation(
            manifest_id=claim.manifest.manifest_id, sha256=digest, length_bytes=len(content)
        )
        progress = await bench.uploads.create(asking, creation)
        while True:
            self.told.offsets[digest] = content[: progress.offset_bytes]
            if progress.complete:
                return
            part = content[progress.offset_bytes :][: len(content) // 2 + 1]
            body = Body(chunks=_chunks(part), size_bytes=len(part))
            progress = await bench.uploads.append(
                asking, progress.upload_id, body, told_offset=progress.offset_bytes
            )

    def used_bytes(self) -> int:
        """Return how long all files of the disk are together."""
        return sum(path.stat().st_size for path in self.disk.root.rglob("*") if path.is_file())

    def losses(self) -> list[str]:
        """Return what was acknowledged and is not there; none of the product's code is asked."""
        return [
            *_lost_offsets(self.site.archive, self.told),
            *_lost_rows(self.site.root / "catalogue.sqlite", self.told),
            *_lost_bags(self.site.archive, self.told),
            *_lost_entries(self.site.archive / "custody", self.told),
        ]

    def stray(self, claim: Claim) -> list[str]:
        """Return what there is beside a claim's files, each once in a bag, and what is missing."""
        stored = sorted(
            hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.site.archive.rglob("data/*")
        )
        found = [] if stored == sorted(claim.contents) else [f"stored: {stored}"]
        incoming = self.site.archive / ".incoming"
        return found + [f"left over: {path}" for path in incoming.rglob("*")]


def _lost_offsets(archive: Path, told: Acknowledged) -> Iterator[str]:
    held = [path.read_bytes() for path in archive.rglob("data/*") if path.is_file()]
    for digest, prefix in told.offsets.items():
        if prefix and not any(content.startswith(prefix) for content in held):
            yield f"{digest}: {len(prefix)} bytes were told"


def _lost_rows(catalogue: Path, told: Acknowledged) -> Iterator[str]:
    if not told.manifests:
        return
    with contextlib.closing(sqlite3.connect(catalogue)) as database:
        try:
            rows = dict(database.execute("SELECT manifest_id, state FROM manifests"))
        except sqlite3.Error as error:
            yield f"the catalogue: {error}"
            return
    for manifest_id in told.manifests:
        if manifest_id not in rows:
            yield f"{manifest_id}: was admitted"
    for receipt in told.receipts:
        if rows.get(receipt.manifest_id) != "archived":
            yield f"{receipt.manifest_id}: has its receipt, the catalogue says otherwise"


def _lost_bags(archive: Path, told: Acknowledged) -> Iterator[str]:
    for receipt in told.receipts:
        for bag in receipt.bags:
            folder = archive / bag.path
            wanted = {"tagmanifest-sha256.txt": bag.tagmanifest_sha256}
            for manifest in ("tagmanifest-sha256.txt", "manifest-sha256.txt"):
                with contextlib.suppress(OSError):  # the manifest itself is wanted, too
                    wanted |= _digests_in((folder / manifest).read_text("utf-8"))
            yield from (
                f"{bag.path}/{name}: not as it was archived"
                for name, sha256 in wanted.items()
                if _sha256(folder / name) != sha256
            )


def _lost_entries(log: Path, told: Acknowledged) -> Iterator[str]:
    """Yield receipts that were told and are not under the checkpoint that is on the disk."""
    if not told.receipts:
        return
    try:
        size = int((log / "checkpoint").read_text().splitlines()[1])
        bundle = (log / f"tile/entries/000.p/{size}").read_bytes()
    except (OSError, ValueError, IndexError) as error:
        yield f"the custody log: {error!r}"
        return
    for receipt in told.receipts:
        if receipt.receipt_id.encode() not in bundle:
            yield f"{receipt.receipt_id}: was sent, and is not in the custody log"


def _digests_in(manifest: str) -> dict[str, str]:
    lines = (line.partition("  ") for line in manifest.splitlines())
    return {name: sha256 for sha256, _, name in lines}


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), _CHUNK_BYTES):
        yield content[start : start + _CHUNK_BYTES]
