from typing import Final

import msgspec

from edge_agent.adapters.bay_board import BayBoard
from protocol.identifiers import BayNumber
from protocol.messages import BayMessage, BayState
from tests.simulators.sealed_manifests import DOCK, NOW, docking_id

READ: Final = BayMessage(
    dock=DOCK,
    bay=BayNumber(1),
    state=BayState.SEALED,
    changed_at=NOW,
    docking_id=docking_id(1),
    bytes_total=1_000,
)


def board() -> BayBoard:
    shown = BayBoard([READ])
    shown.show(READ)
    return shown


def uploaded(shown: BayBoard) -> int:
    return shown.bay(BayNumber(1)).uploaded_bytes


def test_uploads_are_counted() -> None:
    """Where what was read is what is sent, each confirmed byte counts, and restarts count back."""
    shown = board()
    shown.promise(docking_id(1), 1_000)
    for size_bytes in (300, 400, -200):
        shown.add_uploaded(docking_id(1), size_bytes)
    shown.add_uploaded(docking_id(2), 77)

    assert uploaded(shown) == 500


def test_contents_that_are_sent_once_count_in_full() -> None:
    """Of a recorder that holds everything twice, all is uploaded when each content is."""
    shown = board()
    shown.promise(docking_id(1), 500)
    shown.add_uploaded(docking_id(1), 250)
    half = uploaded(shown)
    shown.add_uploaded(docking_id(1), 250)

    assert (half, uploaded(shown)) == (500, 1_000)


def test_what_an_earlier_docking_left_is_no_surplus() -> None:
    """More bytes to send than to read still end at all of it, not before."""
    shown = board()
    shown.promise(docking_id(1), 4_000)
    shown.add_uploaded(docking_id(1), 3_000)

    assert uploaded(shown) == 750


def test_released_means_uploaded() -> None:
    """A releasable recorder shows all of its bytes as uploaded, whoever sent them, and when."""
    shown = board()
    shown.show(msgspec.structs.replace(READ, state=BayState.RELEASABLE))

    assert uploaded(shown) == 1_000


def test_where_nothing_is_to_be_sent_all_is_there() -> None:
    """A docking whose contents the archive was promised before waits for receipts alone."""
    shown = board()
    shown.promise(docking_id(1), 0)

    assert uploaded(shown) == 1_000
