"""A recorder that was pulled in mid-file, back in this bay or in another one."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edge_agent.adapters.journal import Journal
from edge_agent.ingest.copying import OVERLAP_BYTES
from edge_agent.ingest.files import Device
from edge_agent.ports import OutcomeKind
from protocol.digest import sha256_hex
from tests.simulators.docking_site import DockingSite, claimed, recording
from tests.simulators.memory_staging import MemoryStaging
from tests.simulators.memory_volume import MemoryVolume, Stored

R1 = Device(model="DSJ-A8", serial="0000017")
CHUNK = 256 * 1024
FILES = recording(size_bytes=20 * CHUNK)
CLIP, STORED = next(iter(FILES.items()))
# So much of the clip is on the dock when it is pulled.
TAKEN = 12


@pytest.fixture
def staging() -> MemoryStaging:
    return MemoryStaging()


@pytest.fixture
async def site(tmp_path: Path, staging: MemoryStaging) -> AsyncIterator[DockingSite]:
    async with Journal.open(tmp_path / "journal.sqlite") as journal:
        yield DockingSite(journal=journal, staging=staging, checkpoint_bytes=CHUNK)


async def pull(site: DockingSite) -> None:
    volume = MemoryVolume(files=FILES, chunk_bytes=CHUNK, pull_after_chunks=TAKEN)
    assert (await site.dock(volume)).kind is OutcomeKind.LEFT


async def check_whole(site: DockingSite, staging: MemoryStaging, content: bytes) -> None:
    assert claimed(await site.manifests()) == {sha256_hex(content): CLIP}
    assert list(staging.files.values()) == [content]


@pytest.mark.parametrize("bay", [1, 7])
async def test_in_any_bay_it_goes_on_where_it_was(
    site: DockingSite, staging: MemoryStaging, bay: int
) -> None:
    """Of what the dock has, the recorder is asked for the overlap and some samples alone."""
    await pull(site)
    again = MemoryVolume(files=FILES, chunk_bytes=CHUNK)

    outcome = await site.dock(again, bay=bay)

    assert outcome.kind is OutcomeKind.SEALED
    rest = len(STORED.content) - TAKEN * CHUNK
    assert rest <= again.read_bytes[CLIP] <= rest + OVERLAP_BYTES
    await check_whole(site, staging, STORED.content)


async def test_a_prefix_that_our_disk_changed_is_read_anew(
    site: DockingSite, staging: MemoryStaging
) -> None:
    """What does not hash to what the journal says is not gone on with."""
    await pull(site)
    [(file_id, prefix)] = staging.partial.items()
    staging.partial[file_id] = prefix[:-1] + bytes([prefix[-1] ^ 1])
    again = MemoryVolume(files=FILES, chunk_bytes=CHUNK)

    await site.dock(again)

    assert again.read_bytes[CLIP] == len(STORED.content)
    await check_whole(site, staging, STORED.content)


@dataclass(slots=True, kw_only=True)
class PulledAtOnce(MemoryVolume):
    """Leaves when a file is read from its start."""

    def next_reading(self, path: bytes, content: bytes) -> bytes:
        self.docked = False
        return bytes(content if path else b"")


@pytest.mark.parametrize(
    "damage", [lambda _: None, lambda held: held[:-1], lambda held: b"!" + held[1:]]
)
async def test_a_prefix_that_is_lost_is_promised_no_more(
    site: DockingSite,
    staging: MemoryStaging,
    damage: Callable[[bytes], bytes | None],
) -> None:
    """Pulled before anything was read anew, nothing is said to be held that is not."""
    await pull(site)
    [(file_id, held)] = staging.partial.items()
    damaged = damage(held)
    if damaged is None:
        del staging.partial[file_id]
    else:
        staging.partial[file_id] = damaged

    await site.dock(PulledAtOnce(files=FILES))

    [row] = await site.journal.known_files(R1)
    manifest = (await site.manifests())[-1]
    assert row.verified_bytes == 0
    assert [one.taken_bytes for one in manifest.incomplete] == [0]


async def test_a_prefix_of_another_file_is_promised_no_more(
    site: DockingSite, staging: MemoryStaging
) -> None:
    """One byte of the recorder's file is another one: what is held of the old one is forgotten."""
    await pull(site)
    changed = replace(STORED, content=b"!" + STORED.content[1:])

    await site.dock(PulledAtOnce(files={CLIP: changed}))

    [row] = await site.journal.known_files(R1)
    assert row.verified_bytes == 0
    assert (await site.manifests())[-1].incomplete[0].taken_bytes == 0
    assert not any(staging.partial.values())


async def test_a_file_that_changed_below_the_prefix_is_read_anew(
    site: DockingSite, staging: MemoryStaging
) -> None:
    """Same name, size and time, another beginning: nothing of the two is mixed."""
    await pull(site)
    changed = b"?" * 100 + STORED.content[100:]
    again = MemoryVolume(files={CLIP: replace(STORED, content=changed)}, chunk_bytes=CHUNK)

    await site.dock(again)

    await check_whole(site, staging, changed)


async def test_another_recorder_with_an_equal_volume_is_never_merged(
    site: DockingSite, staging: MemoryStaging
) -> None:
    """Equal paths but for the serial number, sizes, times and bytes: two recorders, two copies."""
    other = {
        path.replace(b"_0000017_", b"_0000018_"): Stored(content=one.content, mtime_ns=one.mtime_ns)
        for path, one in FILES.items()
    }
    await pull(site)
    second = MemoryVolume(files=other, chunk_bytes=CHUNK)

    await site.dock(second, bay=2)
    await site.dock(MemoryVolume(files=FILES, chunk_bytes=CHUNK))

    assert second.read_bytes.total() == len(STORED.content)
    manifests = await site.manifests()
    whose = {one.recorder.serial for one in manifests if one.recordings}
    assert whose == {"0000017", "0000018"}
    assert list(staging.files.values()) == [STORED.content] * 2
