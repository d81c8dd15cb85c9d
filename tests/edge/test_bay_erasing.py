"""A bay whose recorder is erased once its receipts are there; edge-mount itself is played."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent.adapters.directory_volume import DirectoryVolume
from edge_agent.adapters.eraser import Eraser
from edge_agent.adapters.notice_store import Notice
from edge_agent.adapters.outbox_store import BYTES_GONE, RECEIPT_FORGOTTEN
from edge_agent.ingest.volume import RawEntry
from edge_agent.mounting.messages import Erased, Reply
from protocol.identifiers import BayNumber
from protocol.messages import BayState
from protocol.registry import ErasePolicy, Erasing, ModelEraseRule
from tests.edge.test_bay_supervisor import BAY, Bay, bay
from tests.simulators.bay_folders import CLIP_BYTES, dock_recorder, pull_recorder
from tests.simulators.docking_site import REGISTRY
from tests.simulators.erasures import AFTER_RECEIPT, FakeEraseClient

__all__ = ["bay"]  # the fixture

SITE_TOPIC = "bayward/v1/site/registry"
MODEL = REGISTRY.recorders[0].model


async def use(bay: Bay, client: FakeEraseClient, *, erasing: Erasing = AFTER_RECEIPT) -> None:
    """Have the site's registry say what is erased, and *client* asked for it."""
    signed = bay.archive.sign_registry(
        msgspec.structs.replace(REGISTRY, version=REGISTRY.version + 1, erasing=erasing)
    )
    registry = await bay.store.take_registry(SITE_TOPIC, signed)
    assert registry is not None
    bay.registry.replace(registry)
    client.listing = lambda: listing(bay.folder)
    eraser = Eraser(
        bay.site.journal,
        bay.registry,
        {BAY: client},
        folder=bay.folder.parent.parent,
        clock=bay.site.ports.clock,
    )
    bay.parts = replace(bay.parts, eraser=eraser)


def listing(folder: Path) -> tuple[RawEntry, ...]:
    with DirectoryVolume.mount(folder) as volume:
        return tuple(volume.entries())


async def erasures(bay: Bay) -> list[tuple[Any, ...]]:
    async with bay.site.journal.transaction() as connection:
        rows = await connection.execute_fetchall(
            "SELECT docking_id, registry_version, ended_at_ms IS NOT NULL, files, size_bytes, code"
            " FROM erasure ORDER BY erasure_id"
        )
    return [tuple(row) for row in rows]


async def test_it_is_erased_before_it_may_be_taken(bay: Bay) -> None:
    """The proof names all that is on it; begin and end stand in the journal."""
    hold = threading.Event()
    client = FakeEraseClient(hold=hold)
    await use(bay, client)
    dock_recorder(bay.folder)
    async with bay.served():
        await bay.receipt_when_sealed()
        erasing = await bay.until(lambda shown: shown.erasing_percent == 50)
        begun = await erasures(bay)
        hold.set()
        released = await bay.until_state(BayState.RELEASABLE)

    docking = released.docking_id
    assert erasing.state is BayState.ERASING
    assert (released.erased_files, released.erasing_percent, released.problem) == (3, None, None)
    assert client.asked == [docking]
    assert begun == [(docking, 2, 0, None, None, None)]
    assert await erasures(bay) == [(docking, 2, 1, 3, 3 * CLIP_BYTES, None)]
    assert not await bay.alerts()


async def test_earlier_dockings_are_proved_as_well(bay: Bay) -> None:
    """What was archived at an earlier docking needs that one's receipt in the proof."""
    client = FakeEraseClient()
    dock_recorder(bay.folder)
    async with bay.served():
        await bay.receipt_when_sealed()
        await bay.until_state(BayState.RELEASABLE)
        pulled = pull_recorder(bay.folder)
        await bay.until_state(BayState.EMPTY)
    await use(bay, client)
    pulled.rename(bay.folder)
    async with bay.served():
        await bay.receipt_when_sealed(2)
        released = await bay.until(lambda shown: shown.erased_files == 3)

    assert released.problem is None
    assert await erasures(bay) == [(released.docking_id, 2, 1, 3, 3 * CLIP_BYTES, None)]


@pytest.mark.parametrize(
    "erasing",
    [
        Erasing(),
        Erasing(policy=ErasePolicy.AFTER_RECEIPT, models=(ModelEraseRule(model=MODEL),)),
    ],
)
async def test_what_the_site_keeps_is_not_asked_for(bay: Bay, erasing: Erasing) -> None:
    """By the site's rule, and by that of the model."""
    client = FakeEraseClient()
    await use(bay, client, erasing=erasing)
    dock_recorder(bay.folder)
    async with bay.served():
        await bay.receipt_when_sealed()
        released = await bay.until_state(BayState.RELEASABLE)

    assert (released.erased_files, client.asked) == (0, [])
    assert not await erasures(bay)


async def test_a_bay_that_is_a_folder_is_never_erased(bay: Bay) -> None:
    """There is nobody to ask for it."""
    client = FakeEraseClient()
    await use(bay, client)
    nobody = Eraser(
        bay.site.journal,
        bay.registry,
        {BayNumber(2): client},
        folder=bay.folder.parent.parent,
        clock=bay.site.ports.clock,
    )
    bay.parts = replace(bay.parts, eraser=nobody)
    dock_recorder(bay.folder)
    async with bay.served():
        await bay.receipt_when_sealed()
        await bay.until_state(BayState.RELEASABLE)

    assert not client.asked


async def test_what_cannot_be_erased_may_be_taken_all_the_same(bay: Bay) -> None:
    """Everything is archived; why it was not erased is shown, told, and kept."""
    reply = Reply(code="E-MNT-110", text="no receipt is about b'X'", erased=Erased())
    await use(bay, FakeEraseClient(reply=reply))
    dock_recorder(bay.folder)
    async with bay.served():
        await bay.receipt_when_sealed()
        released = await bay.until_state(BayState.RELEASABLE)

    assert (released.problem, released.problem_text) == (reply.code, reply.text)
    assert [alert.code for alert in await bay.alerts()] == [reply.code]
    assert await erasures(bay) == [(released.docking_id, 2, 1, 0, 0, "E-MNT-110")]


@pytest.mark.parametrize("code", [RECEIPT_FORGOTTEN, BYTES_GONE])
async def test_an_archive_that_lost_something_is_not_believed(bay: Bay, code: str) -> None:
    """Its older receipts prove nothing any more; what it gives a receipt for later does."""
    client = FakeEraseClient()
    await use(bay, client)
    dock_recorder(bay.folder)
    async with bay.served():
        await bay.until_state(BayState.SEALED)
        await bay.receipt(1)
        await bay.until_state(BayState.RELEASABLE)
        asked = len(client.asked)
        pulled = pull_recorder(bay.folder)
        await bay.until_state(BayState.EMPTY)
        await bay.notices.raise_alert(Notice(code=code, text="set back", facts={}))
        pulled.rename(bay.folder)
        await bay.receipt_when_sealed(2)
        released = await bay.until(lambda shown: shown.problem is not None)

    assert asked == 1
    assert (released.state, released.problem) == (BayState.RELEASABLE, "E-MNT-113")
    assert len(client.asked) == 1


@pytest.mark.parametrize(
    ("client", "code"),
    [
        (FakeEraseClient(dies=True), "E-MNT-107"),
        (FakeEraseClient(reply=Reply(code="E-MNT-115", text="it hangs")), "E-MNT-115"),
    ],
)
async def test_without_an_answer_it_is_not_to_be_taken(
    bay: Bay, client: FakeEraseClient, code: str
) -> None:
    """Somebody may still write to it: only when it is read-only again may it be taken."""
    client = replace(client, asked=[], mounted=threading.Event())
    await use(bay, client)
    dock_recorder(bay.folder)
    async with bay.served():
        await bay.receipt_when_sealed()
        await bay.until_state(BayState.ERASING)
        await bay.settle()
        state = bay.board.bay(BAY).state
        client.mounted.set()
        released = await bay.until_state(BayState.RELEASABLE)

    assert state is BayState.ERASING
    assert released.problem == code


async def test_a_recorder_that_leaves_meanwhile(bay: Bay) -> None:
    """The bay is free, nobody is alarmed, and the journal says that it did not come to an end."""
    await use(bay, FakeEraseClient(hold=threading.Event()))
    dock_recorder(bay.folder)
    async with bay.served():
        await bay.receipt_when_sealed()
        await bay.until_state(BayState.ERASING)
        pull_recorder(bay.folder)
        await bay.until_state(BayState.EMPTY)

    [(_, _, is_ended, files, _, code)] = await erasures(bay)
    assert (is_ended, files, code) == (1, None, "E-MNT-107")
    assert not await bay.alerts()


async def test_an_agent_that_is_stopped_meanwhile(bay: Bay) -> None:
    """What it asked for stands in the journal without an end."""
    await use(bay, FakeEraseClient(hold=threading.Event()))
    dock_recorder(bay.folder)
    async with bay.served():
        await bay.receipt_when_sealed()
        await bay.until(lambda shown: shown.erasing_percent == 50)

    [(_, _, is_ended, files, _, _)] = await erasures(bay)
    assert (is_ended, files) == (0, None)
