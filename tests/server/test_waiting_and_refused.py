"""What a dock may have the archive keep while it waits, or though it was refused."""

import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from protocol.findings import FindingCode
from protocol.identifiers import ManifestId
from protocol.receipt import Admission, AdmissionState, Receipt, Refusal
from protocol.topics import Channel, of_dock
from server_agent import admitting
from server_agent.adapters import refused_quota
from server_agent.catalogue.book import Received
from server_agent.intake import window
from server_agent.intake.checks import Claim as ReadClaim
from tests.simulators.archive_site import DOCK, ArchiveSite, lay_out_site
from tests.simulators.claims import Claim, Claimant
from tests.simulators.intake_bench import IntakeBench


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
def claimant(site: ArchiveSite) -> Claimant:
    return Claimant(DOCK, site.key(DOCK))


def squat(claimant: Claimant, claim: Claim) -> Claim:
    """Sign another manifest for the place of *claim*, which follows nothing that there is."""
    other = replace(
        claim.manifest,
        manifest_id=ManifestId(claimant.mint()),
        recordings=(),
        previous_sha256="22" * 32,
    )
    return claimant.sign(other)


def rows(site: ArchiveSite, query: str) -> list[Any]:
    with closing(sqlite3.connect(site.root / "catalogue.sqlite")) as connection:
        return connection.execute(query).fetchall()


def is_received(bench: IntakeBench, claims: Sequence[Claim]) -> list[bool]:
    return [isinstance(bench.last[one.manifest.manifest_id], Receipt) for one in claims]


async def test_a_squatter_does_not_keep_the_true_manifest_out(
    bench: IntakeBench, claimant: Claimant
) -> None:
    """In one batch the head moves, the squatter's place is free, and the true one takes it."""
    claims = [claimant.claim(recordings=[]) for _ in range(4)]
    await bench.publish([squat(claimant, one) for one in claims[1:]])
    await bench.publish(claims)

    assert is_received(bench, claims) == [True] * 4


async def test_a_squatter_that_a_crash_left_does_not_keep_the_true_manifest_out(
    site: ArchiveSite, claimant: Claimant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive stopped between the head's move and the squatter's end."""

    async def crash(self: object, docks: object) -> list[object]:
        del self, docks
        return []

    first, second = (claimant.claim(recordings=[]) for _ in range(2))
    bench = IntakeBench(site)
    await bench.start()
    await bench.publish([squat(claimant, second)])
    with monkeypatch.context() as broken:
        broken.setattr(admitting.Admitter, "promote", crash)
        await bench.publish([first])
    await bench.publish([second])
    await bench.stop()

    assert is_received(bench, [second]) == [True]


@pytest.mark.parametrize("promoted_bytes", [1, 3_000, 1 << 20])
async def test_what_waited_is_admitted_some_bytes_at_a_time(
    site: ArchiveSite, claimant: Claimant, monkeypatch: pytest.MonkeyPatch, promoted_bytes: int
) -> None:
    """However few bytes are taken at once, all that waited is admitted, read in a thread."""
    read_at_once: list[int] = []
    threads: set[threading.Thread] = set()
    read_sound = admitting._read_sound  # noqa: SLF001 -- to look at what it is given

    def read(envelopes: Sequence[bytes]) -> list[ReadClaim]:
        read_at_once.append(sum(map(len, envelopes)))
        threads.add(threading.current_thread())
        return read_sound(envelopes)

    monkeypatch.setattr(admitting, "_PROMOTED_BYTES", promoted_bytes)
    monkeypatch.setattr(admitting, "_read_sound", read)
    claims = [claimant.claim(recordings=[]) for _ in range(8)]
    bench = IntakeBench(site)
    await bench.start()
    await bench.publish(claims[1:])
    await bench.publish(claims[:1])
    await bench.stop()

    largest = max(len(one.envelope) for one in claims)
    assert is_received(bench, claims) == [True] * 8
    assert max(read_at_once) <= max(promoted_bytes, largest)
    assert threading.main_thread() not in threads


async def test_too_far_ahead_is_not_kept(
    site: ArchiveSite,
    bench: IntakeBench,
    claimant: Claimant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What would wait behind too many others is refused, and admitted when it is shown again."""
    monkeypatch.setattr(window, "MAX_AHEAD", 3)
    claims = [claimant.claim(recordings=[]) for _ in range(5)]
    await bench.publish(claims[1:])
    said = [bench.last[one.manifest.manifest_id] for one in claims[1:]]
    kept = rows(site, "SELECT count(*) FROM manifests")
    refused = rows(site, "SELECT count(*) FROM refused_messages")
    await bench.publish(claims)

    assert [isinstance(one, Admission) for one in said] == [True, True, False, False]
    assert isinstance(said[-1], Refusal)
    assert said[-1].code is FindingCode.MESSAGE_TOO_LARGE
    assert "try again" in said[-1].detail
    assert kept == [(2,)]
    assert refused == [(0,)]
    assert is_received(bench, claims) == [True] * 5


async def test_too_many_bytes_that_wait_are_not_kept(
    site: ArchiveSite,
    bench: IntakeBench,
    claimant: Claimant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A dock's waiting manifests have so many bytes, counted within a batch and before it."""
    claims = [claimant.claim(recordings=[]) for _ in range(6)]
    size_bytes = len(claims[0].envelope)
    monkeypatch.setattr(window, "MAX_WAITING_BYTES", 2 * size_bytes + size_bytes // 2)
    await bench.publish(claims[1:4])
    await bench.publish(claims[4:])
    said = [bench.last[one.manifest.manifest_id] for one in claims[1:]]

    waiting = [isinstance(one, Admission) and one.state is AdmissionState.WAITING for one in said]
    assert waiting == [True, True, False, False, False]
    assert rows(site, "SELECT count(*) FROM manifests") == [(2,)]


async def test_what_is_refused_has_a_share(
    site: ArchiveSite, bench: IntakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole first, then only the beginning, then a count: no message goes uncounted."""
    monkeypatch.setattr(refused_quota, "QUOTA_BYTES", 100_000)
    topic = of_dock(DOCK, Channel.MANIFESTS)
    bodies = [b"%04d" % number + b"x" * 20_000 for number in range(60)]
    for some in (bodies[:3], bodies[3:30], bodies[30:], bodies[:3]):
        await bench.admitter.take(
            [Received(untrusted_topic=topic, untrusted_body=one) for one in some]
        )
    found = rows(
        site, "SELECT length(body), detail, times, sha256 FROM refused_messages ORDER BY message_id"
    )

    whole = [one for one in found if one[0] == len(bodies[0])]
    cut = [one for one in found if one[0] == refused_quota.FIRST_BYTES]
    [counted] = [one for one in found if one[3] == refused_quota.ONLY_COUNTED]
    assert len(whole) >= 3
    assert cut
    assert all("20004 bytes" in one[1] for one in cut)
    assert counted[2] == len(bodies) - len(whole) - len(cut)
    assert sum(one[2] for one in found) == len(bodies) + 3
    assert sum(one[0] for one in found) <= 2 * 100_000
