"""A bag that is being closed, with the power gone or the disk failing at every step."""

import contextlib
import errno
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime import durable
from server_agent.adapters import bag_writer
from server_agent.adapters.bag_verifier import verify_bag
from server_agent.adapters.bag_writer import BagWriter
from tests.simulators.bag_site import CLOSED_AT, BagSite, build_site

# Every system call by which the writer changes the disk, but for the rename, which is followed by
# a sync: the power that goes there goes after the rename.
STEPS = ("open", "write", "fsync", "fdatasync", "fchmod", "chmod", "unlink", "mkdir")


class PowerCut(BaseException):
    """The machine stops: nothing that follows happens. Nobody may catch it by mistake."""


class Fuse:
    """Lets a number of disk operations through and raises at the next."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, lets_through: int, fault: BaseException
    ) -> None:
        self._left = lets_through
        self._fault = fault
        self.blown = False
        for step in STEPS:
            monkeypatch.setattr(os, step, self._guarded(getattr(os, step)))

    def _guarded(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **named: Any) -> Any:
            if self._left == 0:
                self.blown = True
                raise self._fault
            self._left -= 1
            return call(*arguments, **named)

        return guarded


@pytest.fixture
def site(tmp_path: Path) -> BagSite:
    return build_site(tmp_path / "pki", clips={b"DCIM/x.MP4": b"clip"}, with_sm3=False)


def interruptions(
    site: BagSite, folder: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> Iterator[BagWriter]:
    """Yield an archive after a fault at the first step, at the second, and so on to the last."""
    request = site.request(site.manifest.recordings[0])
    for lets_through in itertools.count():
        writer = BagWriter(folder / str(lets_through), clock=lambda: CLOSED_AT)
        site.fill(writer, request)
        with monkeypatch.context() as patch:
            fuse = Fuse(patch, lets_through, fault)
            with contextlib.suppress(PowerCut, OSError):
                writer.close_bag(request)
        if not fuse.blown:
            return
        yield writer


@pytest.mark.parametrize(
    "fault", [PowerCut(), OSError(errno.EIO, "the disk"), OSError(errno.ENOSPC, "full")], ids=repr
)
def test_interrupted_closing_is_completed(
    site: BagSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    """Whatever step it stopped at, closing the bag again gives the same good bag."""
    request = site.request(site.manifest.recordings[0])
    stops = 0
    for writer in interruptions(site, tmp_path, monkeypatch, fault):
        stops += 1

        archived = writer.close_bag(request)

        report = verify_bag(writer.root / archived.path, ca_pem=site.ca_pem)
        assert report.findings == ()
        assert report.tagmanifest_sha256 == archived.tagmanifest_sha256
        assert {path.stat().st_mode & 0o222 for path in writer.root.glob("2*/**/*/data/*")} == {0}

    assert stops > len(STEPS)


def test_no_bag_is_half_in_its_place(
    site: BagSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a stop at any step, either the whole bag has its place or nothing has."""
    request = site.request(site.manifest.recordings[0])
    seen = set[bool]()
    for writer in interruptions(site, tmp_path, monkeypatch, PowerCut()):
        target = writer.root / request.target
        seen.add(target.exists())

        assert not target.exists() or verify_bag(target, ca_pem=site.ca_pem).ok

    assert seen == {False, True}


def test_original_survives_every_stop(
    site: BagSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a stop at any step, the payload is there, whole, exactly once."""
    for writer in interruptions(site, tmp_path, monkeypatch, PowerCut()):
        clips = list(writer.root.rglob("x.MP4"))

        assert [clip.read_bytes() for clip in clips] == [b"clip"]


def test_everything_is_synced_before_the_rename(
    site: BagSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file and folder of a bag is synced before it gets its place, both parents after."""
    request = site.request(site.manifest.recordings[0])
    writer = BagWriter(tmp_path / "archive", clock=lambda: CLOSED_AT)
    bag = site.fill(writer, request)
    synced: list[Path] = []
    before: list[Path] = []
    fsync, rename = os.fsync, durable.rename_no_replace

    def record_fsync(fd: int) -> None:
        fsync(fd)
        synced.append(Path(f"/proc/self/fd/{fd}").readlink())

    def record_rename(src: Path, dst: Path) -> None:
        before.extend(synced)
        synced.clear()
        assert {bag, *bag.rglob("*")} <= set(before)
        rename(src, dst)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(bag_writer, "rename_no_replace", record_rename)

    target = writer.root / writer.close_bag(request).path

    assert before
    assert {target, target.parent, bag.parent} <= set(synced)
