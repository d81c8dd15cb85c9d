"""A bay that waits for room on the dock's disk."""

import asyncio

from edge_agent.adapters.freeing import Freeing
from edge_agent.adapters.pulse import Pulse
from edge_agent.ports import WAITS_FOR_ROOM
from protocol.messages import BayState
from tests.edge.test_bay_supervisor import Bay, bay
from tests.simulators.bay_folders import CLIP_BYTES, dock_recorder

__all__ = ["bay"]  # the fixture


async def test_receipts_make_room_for_who_waits(bay: Bay) -> None:
    """Marked clips are taken at once; their receipt frees them, and the bay goes on by itself."""
    bay.staging.room_bytes = 3 * CLIP_BYTES
    bay.site.allotments.kept_for_marked_bytes = CLIP_BYTES
    contents = dock_recorder(bay.folder, clips=2, marked=2)
    freeing = Freeing(bay.store, bay.staging, bay.receipts, on_freed=bay.parts.room.room_freed)
    async with bay.served():
        waiting = await bay.until(lambda shown: shown.problem == WAITS_FOR_ROOM)
        held = set(bay.staging.files.values())
        making_room = asyncio.create_task(freeing.run())
        await bay.receipt(1)
        await bay.until_state(BayState.SEALED)
        making_room.cancel()

    marked = {content for path, content in contents.items() if "IMP" in path}
    assert waiting.state is BayState.ATTENTION
    assert waiting.problem_text == f"2 files wait for room: {2 * CLIP_BYTES} bytes"
    assert held == marked
    assert set(bay.staging.files.values()) == set(contents.values()) - marked
    assert [alert.code for alert in await bay.alerts()] == [WAITS_FOR_ROOM]


async def test_without_a_receipt_nothing_is_freed_for_who_waits(bay: Bay) -> None:
    """However long a recorder waits: only what has its receipt goes."""
    bay.staging.room_bytes = 3 * CLIP_BYTES
    bay.site.allotments.kept_for_marked_bytes = CLIP_BYTES
    dock_recorder(bay.folder, clips=2, marked=2)
    receipts = Pulse()
    freeing = Freeing(bay.store, bay.staging, receipts, on_freed=bay.parts.room.room_freed)
    async with bay.served():
        await bay.until(lambda shown: shown.problem == WAITS_FOR_ROOM)
        making_room = asyncio.create_task(freeing.run())
        receipts.beat()
        bay.parts.room.room_freed()
        await bay.settle()
        making_room.cancel()

    assert len(bay.staging.files) == 2
    assert len(await bay.site.manifests()) == 1
