"""Faults of the archive's own disk and catalogue end one unit of work, never the archive."""

import asyncio
import contextlib
import errno
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import structlog

from protocol.receipt import Admission, AdmissionState, Receipt
from server_agent.adapters import bag_writer, catalogue_store
from server_agent.app import serve
from server_agent.errors import ReadBackError
from tests.simulators.archive_site import DOCK, OTHER_DOCK, ArchiveSite, lay_out_site
from tests.simulators.claims import Claim, Claimant
from tests.simulators.intake_bench import IntakeBench

TIMEOUT_S = 60.0


@pytest.fixture
def site(tmp_path: Path) -> ArchiveSite:
    return lay_out_site(tmp_path)


@pytest.fixture
async def bench(site: ArchiveSite) -> AsyncIterator[IntakeBench]:
    one = IntakeBench(site)
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue that is waited for half a minute otherwise."""
    monkeypatch.setattr(catalogue_store, "_BUSY_TIMEOUT_MS", 50)


def claimant(site: ArchiveSite, dock: Any = DOCK) -> Claimant:
    return Claimant(dock, site.key(dock))


@contextlib.contextmanager
def catalogue(site: ArchiveSite) -> Iterator[sqlite3.Connection]:
    """The catalogue, by another program's hands."""
    path = site.root / "catalogue.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


@contextlib.contextmanager
def locked(site: ArchiveSite) -> Iterator[None]:
    with catalogue(site) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def alerts(site: ArchiveSite) -> list[str]:
    with catalogue(site) as connection:
        return [code for (code,) in connection.execute("SELECT code FROM alerts")]


@contextlib.asynccontextmanager
async def archiving(bench: IntakeBench) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(bench.archiver.run())
    yield task
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until_receipt(bench: IntakeBench, claim: Claim) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not bench.receipts[claim.manifest.manifest_id]:  # noqa: ASYNC110 -- a bench gives no event
            await asyncio.sleep(0.01)


async def until_logged(logs: list[Any], event: str) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not any(one["event"] == event for one in logs):  # noqa: ASYNC110 -- a log gives no event
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("impatient")
async def test_a_locked_catalogue_ends_no_archiver(site: ArchiveSite) -> None:
    """A bag that cannot be recorded waits for the next sweep, and the archive goes on."""
    bench = IntakeBench(site)
    await bench.start()
    claim = claimant(site).claim(recordings=[[b"evidence"]])
    await bench.publish([claim])
    await bench.upload(claim, b"evidence")
    async with archiving(bench):
        with structlog.testing.capture_logs() as logs, locked(site):
            await until_logged(logs, "an alert could not be kept")
        await bench.archiver.sweep()
        await until_receipt(bench, claim)
    await bench.stop()


@pytest.mark.usefixtures("impatient")
async def test_a_locked_catalogue_ends_no_reading_of_the_registry(site: ArchiveSite) -> None:
    """SIGHUP while another program holds the catalogue changes nothing, and ends nothing."""
    async with serve(site.configure()) as server:
        before = server.registry_version
        with locked(site):
            await server.reload_registry()
        await server.reload_registry()

        assert server.registry_version == before


async def test_a_file_that_cannot_be_removed_ends_no_archiver(
    site: ArchiveSite, bench: IntakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that became read-only under a wrong file is an alarm; the file comes again later."""
    claim = claimant(site).claim(recordings=[[b"evidence"]])
    await bench.publish([claim])
    await bench.upload(claim, b"evidence")
    unlink = Path.unlink

    def refuse(path: Path, *, missing_ok: bool = False) -> None:
        if path.parent.name == "data" and ".incoming" in path.parts:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        unlink(path, missing_ok=missing_ok)

    def differ(self: Any, tags: Any) -> None:
        del tags
        raise ReadBackError(self._name, safe_names=[one.safe_name for one in self._request.files])

    async with archiving(bench):
        with monkeypatch.context() as broken, structlog.testing.capture_logs() as logs:
            broken.setattr(Path, "unlink", refuse)
            broken.setattr(f"{bag_writer.__name__}._OpenBag.read_back", differ)
            await until_logged(logs, "one unit of work failed")
            async with asyncio.timeout(TIMEOUT_S):
                while not bench.missing(claim):  # noqa: ASYNC110 -- a bench gives no event
                    await asyncio.sleep(0.01)
        await bench.upload(claim, b"evidence")
        await until_receipt(bench, claim)

    assert "E-ARC-105" in alerts(site)


async def test_a_damaged_manifest_holds_up_no_other(site: ArchiveSite) -> None:
    """One row that can no longer be read is an alarm at the start, and the others are archived."""
    damaged = claimant(site).claim(recordings=[[b"lost"]])
    sound = claimant(site, OTHER_DOCK).claim(recordings=[[b"sound"]])
    first = IntakeBench(site)
    await first.start()
    await first.publish([damaged, sound])
    for claim, content in ((damaged, b"lost"), (sound, b"sound")):
        await first.upload(claim, content)
    await first.stop()
    with catalogue(site) as connection:
        connection.execute(
            "UPDATE manifests SET envelope = substr(envelope, 2) WHERE dock = ?", (DOCK,)
        )
    second = IntakeBench(site)
    await second.start()
    async with archiving(second):
        await until_receipt(second, sound)
    await second.stop()

    assert "E-ADM-101" in alerts(site)
    assert not second.receipts[damaged.manifest.manifest_id]


async def test_a_damaged_manifest_that_waits_holds_up_no_other_dock(
    site: ArchiveSite, bench: IntakeBench
) -> None:
    """What waits and can no longer be read goes on waiting; other docks' manifests do not."""
    docks = [claimant(site), claimant(site, OTHER_DOCK)]
    firsts, seconds = ([one.claim(recordings=[]) for one in docks] for _ in range(2))
    await bench.publish(seconds)
    with catalogue(site) as connection:
        connection.execute(
            "UPDATE manifests SET envelope = substr(envelope, 2) WHERE dock = ?", (DOCK,)
        )
    await bench.publish(firsts)

    said = [bench.last[one.manifest.manifest_id] for one in (*firsts, *seconds)]
    assert [isinstance(one, Receipt) for one in said] == [True, True, False, True]
    assert alerts(site) == ["E-ADM-101"]


@pytest.mark.usefixtures("impatient")
async def test_the_same_fault_is_one_alert(site: ArchiveSite) -> None:
    """A hundred units that fail alike within an hour are one alert."""
    async with serve(site.configure()) as server:
        for number in range(100):
            async with server.alarms.outliving("a step", unit=str(number)):
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    assert alerts(site) == ["E-ARC-105"]


async def test_a_bug_is_not_outlived(site: ArchiveSite) -> None:
    """What no disk and no catalogue does goes through."""
    async with serve(site.configure()) as server:
        with pytest.raises(KeyError):
            async with server.alarms.outliving("a step"):
                raise KeyError("our bug")


async def test_a_stranger_in_incoming_is_left_alone(site: ArchiveSite) -> None:
    """A plain file where a manifest's folder could be is an alarm; the archive starts."""
    incoming = site.archive / ".incoming"
    incoming.mkdir(parents=True)
    stranger = incoming / claimant(site).mint()
    stranger.write_bytes(b"?")
    bench = IntakeBench(site)
    await bench.start()
    await bench.stop()

    assert alerts(site) == ["E-ARC-104"]
    assert stranger.read_bytes() == b"?"


async def test_a_sealed_file_is_asked_for_again_at_the_start(site: ArchiveSite) -> None:
    """A crash between "missing" and the file's removal: it is removed, and its dock is told."""
    claim = claimant(site).claim(recordings=[[b"evidence"]])
    first = IntakeBench(site)
    await first.start()
    await first.publish([claim])
    await first.upload(claim, b"evidence")
    await first.stop()
    [path] = (site.archive / ".incoming").rglob("data/*")
    path.chmod(0o444)
    with catalogue(site) as connection:
        connection.execute("UPDATE files SET state = 'missing'")

    second = IntakeBench(site)
    await second.start()
    said = second.last[claim.manifest.manifest_id]
    await second.upload(claim, b"evidence")
    await second.archive()
    await second.stop()

    assert isinstance(said, Admission)
    assert said.state is AdmissionState.ADMITTED
    assert len(said.missing) == 1
    assert second.receipts[claim.manifest.manifest_id]
