"""The custody log is stopped at every step: nothing is missing, doubled, or signed too early."""

import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from protocol.tiles import CHECKPOINT
from server_agent import custody
from server_agent.adapters.custody_records import record_signed
from tests.simulators.custody_site import CustodySite, open_custody_site

# Every system call by which the log's files change, and the renames behind them.
STEPS: Final = ("open", "write", "fsync", "fdatasync", "unlink", "mkdir", "rename", "rmdir")
FIRST: Final = [b"before %d" % number for number in range(250)]
# Fills the tile, and begins the next one.
THEN: Final = [b"then %d" % number for number in range(10)]


class Killed(BaseException):
    """The program is gone. Nobody may catch it by mistake."""


class Fuse:
    """Lets a number of steps through and stops the program at the next."""

    def __init__(self, patch: pytest.MonkeyPatch, lets_through: int) -> None:
        self._left = lets_through
        self.blown = False
        for step in STEPS:
            patch.setattr(os, step, self._guarded(getattr(os, step)))
        patch.setattr(custody, "record_signed", self._guarded(record_signed))

    def _guarded(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **named: Any) -> Any:
            if self._left == 0:
                self.blown = True
                raise Killed
            self._left -= 1
            return call(*arguments, **named)

        return guarded


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[CustodySite]:
    async with open_custody_site(tmp_path) as one:
        yield one


async def _begin_anew(site: CustodySite, number: int) -> None:
    site.folder = site.folder.with_name(f"custody-{number}")
    await site.execute("DELETE FROM custody_entries")
    await site.execute("DELETE FROM custody_checkpoint")
    await site.commit(*FIRST)
    await site.log().seal()
    await site.commit(*THEN)


async def test_killed_at_every_step(site: CustodySite, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint on the disk is good after each; the next start logs each entry once."""
    sizes = set[int]()
    for lets_through in itertools.count():
        await _begin_anew(site, lets_through)
        log = site.log()
        with monkeypatch.context() as patch:
            fuse = Fuse(patch, lets_through)
            with contextlib.suppress(Killed):
                await log.seal()
        checkpoint = site.checkpoint()
        assert checkpoint is not None
        assert site.faults() == []
        assert site.logged() == [*FIRST, *THEN][: checkpoint.size]
        sizes.add(checkpoint.size)

        await site.log().seal()

        assert site.faults() == []
        assert site.logged() == [*FIRST, *THEN]
        assert not list(site.folder.rglob(".*.partial"))
        if not fuse.blown:
            break

    assert lets_through > 20
    assert sizes == {len(FIRST), len(FIRST) + len(THEN)}


async def test_killed_again_while_it_makes_up_for_it(
    site: CustodySite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped one step later each time, it comes through, and nothing it signed is taken back."""
    await _begin_anew(site, 0)
    smallest = len(FIRST)
    for lets_through in itertools.count():
        with monkeypatch.context() as patch:
            fuse = Fuse(patch, lets_through)
            with contextlib.suppress(Killed):
                await site.log().seal()
        checkpoint = site.checkpoint()
        assert checkpoint is not None
        assert checkpoint.size >= smallest
        assert site.faults() == []
        smallest = checkpoint.size
        if not fuse.blown:
            break

    assert site.logged() == [*FIRST, *THEN]


async def test_everything_is_durable_before_the_checkpoint(
    site: CustodySite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each new file and its folder are synced before the checkpoint gets its name."""
    await _begin_anew(site, 0)
    synced = set[Path]()
    before = set[Path]()
    fsync, fdatasync, replace = os.fsync, os.fdatasync, Path.replace

    def record(call: Callable[[int], None]) -> Callable[[int], None]:
        def recorded(fd: int) -> None:
            call(fd)
            synced.add(Path(f"/proc/self/fd/{fd}").readlink())

        return recorded

    def record_replace(path: Path, target: Path) -> Path:
        if target.name == CHECKPOINT:
            before.update(synced)
        return replace(path, target)

    old = {path for path in site.folder.rglob("*") if path.is_file()}
    monkeypatch.setattr(os, "fsync", record(fsync))
    monkeypatch.setattr(os, "fdatasync", record(fdatasync))
    monkeypatch.setattr(Path, "replace", record_replace)

    await site.log().seal()

    new = {path for path in site.folder.rglob("*") if path.is_file()} - old
    assert new
    assert {path.parent for path in new} <= before
    assert len([path for path in before if path.name.endswith(".partial")]) >= len(new)
