"""What stands in for what: a receipt is only ever signed for bytes that were just read."""

import hashlib
import shutil
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from protocol.custody import BagArchived, ReceiptIssued, parse_entry
from protocol.findings import FindingCode
from protocol.identifiers import OfficerId
from protocol.manifest import Manifest, Recording
from protocol.receipt import Admission, Receipt, Refusal
from protocol.topics import Channel, of_dock
from server_agent.adapters import bag_writer
from server_agent.adapters.bag_verifier import verify_bag
from server_agent.archive.verification import BagReport
from server_agent.arrivals import Arrivals
from server_agent.catalogue.book import Received
from tests.simulators.archive_site import DOCK, OTHER_DOCK, lay_out_site
from tests.simulators.claims import Claim, Claimant
from tests.simulators.intake_bench import IntakeBench

CLIPS = (b"first clip " * 1_000, b"second clip")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[IntakeBench]:
    bench = IntakeBench(lay_out_site(tmp_path))
    await bench.start()
    yield bench
    await bench.stop()


@pytest.fixture
def claimant(bench: IntakeBench) -> Claimant:
    return Claimant(DOCK, bench.site.key(DOCK))


@pytest.fixture
def other(bench: IntakeBench) -> Claimant:
    return Claimant(OTHER_DOCK, bench.site.key(OTHER_DOCK))


def rows(bench: IntakeBench, query: str) -> list[Any]:
    with closing(sqlite3.connect(bench.site.root / "catalogue.sqlite")) as catalogue:
        return catalogue.execute(query).fetchall()


async def send_missing(bench: IntakeBench, claim: Claim) -> None:
    for digest in bench.missing(claim):
        assert await bench.upload(claim, claim.contents[digest])
    await bench.archive()


async def deliver(bench: IntakeBench, claim: Claim) -> Receipt:
    await bench.publish([claim])
    await bench.archive()
    await send_missing(bench, claim)
    return receipt(bench, claim)


def receipt(bench: IntakeBench, claim: Claim) -> Receipt:
    said = bench.last[claim.manifest.manifest_id]
    assert isinstance(said, Receipt), said
    return said


def standing(bench: IntakeBench) -> list[Path]:
    return sorted({path.parent.parent for path in bench.payload_files()})


def gone(bag: Path) -> None:
    for folder in (bag, *bag.rglob("*/")):
        folder.chmod(0o755)
    shutil.rmtree(bag)


def rotten(bag: Path) -> None:
    clip = next(bag.glob("data/*"))
    clip.chmod(0o644)
    clip.write_bytes(b"?" + clip.read_bytes()[1:])


def rewritten(bag: Path) -> None:
    """Change what no signature covers, and make every list right again."""
    for path in (bag, *bag.rglob("*")):
        path.chmod(0o755)
    info, tags = bag / "bag-info.txt", bag / "tagmanifest-sha256.txt"
    was = hashlib.sha256(info.read_bytes()).hexdigest()
    info.write_text(info.read_text().replace("Bayward site", "Another site"))
    tags.write_text(tags.read_text().replace(was, hashlib.sha256(info.read_bytes()).hexdigest()))


async def test_nothing_is_asked_for_that_stands(bench: IntakeBench, claimant: Claimant) -> None:
    """The admission asks for nothing; the receipt comes after the bag was read once more."""
    old = await deliver(bench, claimant.claim(recordings=[CLIPS]))
    again = claimant.claim(recordings=[CLIPS])
    await bench.publish([again])

    said = bench.last[again.manifest.manifest_id]
    assert isinstance(said, Admission)
    assert said.missing == ()
    await bench.archive()
    [bag] = receipt(bench, again).bags
    assert bag.existing
    assert bag.path == old.bags[0].path


async def test_content_that_matched_is_logged_as_existing(
    bench: IntakeBench, claimant: Claimant
) -> None:
    """The custody log says that the bag was read again for another docking."""
    await deliver(bench, claimant.claim(recordings=[CLIPS]))
    again = await deliver(bench, claimant.claim(recordings=[CLIPS]))

    entries = rows(bench, "SELECT entry FROM custody_entries ORDER BY entry_index")
    *_, first, _, _, second, issued = (parse_entry(entry) for (entry,) in entries)
    assert isinstance(first, BagArchived)
    assert isinstance(second, BagArchived)
    assert isinstance(issued, ReceiptIssued)
    assert (first.existing, second.existing) == (False, True)
    assert first.tagmanifest_sha256 == second.tagmanifest_sha256
    assert second.manifest_id == issued.manifest_id == again.manifest_id


@pytest.mark.parametrize("harm", [gone, rotten, rewritten])
async def test_a_bag_that_is_bad_stands_for_nothing(
    bench: IntakeBench, claimant: Claimant, harm: Any
) -> None:
    """The disk is looked at before a receipt: what is not there is asked for again, and alarmed."""
    old = await deliver(bench, claimant.claim(recordings=[CLIPS]))
    harm(bench.site.archive / old.bags[0].path)
    again = claimant.claim(recordings=[CLIPS])
    await bench.publish([again])
    await bench.archive()

    assert bench.missing(again) == [hashlib.sha256(clip).hexdigest() for clip in CLIPS]
    assert [row[0] for row in rows(bench, "SELECT code FROM alerts")] == ["E-ARC-106"]
    await send_missing(bench, again)
    [bag] = receipt(bench, again).bags
    assert not bag.existing
    assert bag.path.endswith(again.manifest.recordings[0].recording_id)
    assert verify_bag(bench.site.archive / bag.path, ca_pem=None).ok


async def test_the_third_claim_finds_the_good_bag(bench: IntakeBench, claimant: Claimant) -> None:
    """A bag that was found bad is matched no more; the one that took its place is."""
    old = await deliver(bench, claimant.claim(recordings=[CLIPS]))
    gone(bench.site.archive / old.bags[0].path)
    new = await deliver(bench, claimant.claim(recordings=[CLIPS]))
    last = claimant.claim(recordings=[CLIPS])
    await bench.publish([last])

    assert not new.bags[0].existing
    assert bench.missing(last) == []
    await bench.archive()
    assert receipt(bench, last).bags[0].path == new.bags[0].path


async def test_a_crash_before_the_reading_is_made_up_for(
    bench: IntakeBench, claimant: Claimant
) -> None:
    """What waited for a bag to be read waits after a restart too, and is then receipted."""
    await deliver(bench, claimant.claim(recordings=[CLIPS]))
    again = claimant.claim(recordings=[CLIPS])
    await bench.publish([again])
    await bench.stop()
    await bench.start()
    await bench.archive()

    assert receipt(bench, again).bags[0].existing


async def test_many_claims_share_one_reading(
    bench: IntakeBench, claimant: Claimant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many manifests name a bag, it is read once for all that came before."""
    await deliver(bench, claimant.claim(recordings=[CLIPS]))
    read: list[Path] = []

    def counted(bag: Path, *, ca_pem: bytes | None) -> BagReport:
        read.append(bag)
        return verify_bag(bag, ca_pem=ca_pem)

    monkeypatch.setattr(bag_writer, "verify_bag", counted)
    claims = [claimant.claim(recordings=[CLIPS]) for _ in range(250)]
    await bench.publish(claims)
    await bench.archive()

    assert len(read) == 1
    assert all(receipt(bench, claim).bags[0].existing for claim in claims)


def changed(**fields: Any) -> partial[Recording]:
    return partial(replace, **fields)


def with_recording(manifest: Manifest, change: Any) -> Manifest:
    [recording] = manifest.recordings
    return replace(manifest, recordings=(change(recording),))


@pytest.mark.parametrize(
    "change",
    [
        changed(officer=OfficerId("999999")),
        changed(recorded_on=date(1999, 1, 1)),
        changed(started=datetime(2026, 11, 22, 1, 2, 3)),  # noqa: DTZ001 -- a recorder's clock
        lambda recording: replace(recording, clips=recording.clips[::-1]),
        lambda recording: replace(recording, clips=recording.clips[:1]),
    ],
    ids=["officer", "day", "started", "order", "fewer clips"],
)
async def test_another_docks_other_story_is_another_bag(
    bench: IntakeBench, claimant: Claimant, other: Claimant, change: Any
) -> None:
    """Equal bytes under other facts do not stand in for what an honest dock claims."""
    said = claimant.claim(recordings=[CLIPS])
    false = claimant.sign(with_recording(said.manifest, change), said.contents)
    await deliver(bench, false)
    honest = other.claim(recordings=[CLIPS])
    got = await deliver(bench, honest)

    [bag] = got.bags
    assert not bag.existing
    written = bench.site.archive / bag.path / "bayward/dock-manifest.dsse.json"
    assert written.read_bytes() == honest.envelope


async def test_other_files_do_not_stand_for_a_recording(
    bench: IntakeBench, claimant: Claimant, other: Claimant
) -> None:
    """Evidence that a dishonest dock filed as rubbish is archived as a recording all the same."""
    await deliver(bench, claimant.claim(recordings=[], others=CLIPS))
    got = await deliver(bench, other.claim(recordings=[CLIPS]))

    assert not got.bags[0].existing


async def test_a_recorder_that_moves_between_docks_is_archived_once(
    bench: IntakeBench, claimant: Claimant, other: Claimant
) -> None:
    """The same content under the same facts is one bag, whichever dock took it."""
    await deliver(bench, claimant.claim(recordings=[CLIPS], others=[b"log"]))
    got = await deliver(bench, other.claim(recordings=[CLIPS], others=[b"log"]))

    assert [bag.existing for bag in got.bags] == [True, True]
    assert len(standing(bench)) == 2


async def test_a_contradicting_sm3_is_asked_for(bench: IntakeBench, claimant: Claimant) -> None:
    """Where the two digests contradict each other the bytes decide, not the catalogue."""
    await deliver(bench, claimant.claim(recordings=[CLIPS], with_sm3=True))
    said = claimant.claim(recordings=[CLIPS], with_sm3=True)
    [recording] = said.manifest.recordings
    first = recording.clips[0]
    digests = replace(first.file.digests, sm3="0" * 64)
    false = replace(first, file=replace(first.file, digests=digests))
    manifest = with_recording(said.manifest, changed(clips=(false, *recording.clips[1:])))
    await bench.publish([claimant.sign(manifest)])

    said_last = bench.last[manifest.manifest_id]
    assert isinstance(said_last, Admission)
    assert len(said_last.missing) == len(CLIPS)


async def test_claimed_twice_before_either_was_sent(
    bench: IntakeBench, claimant: Claimant, other: Claimant
) -> None:
    """The second to arrive finds the first one's bag: one bag, two receipts, no copies left."""
    claims = [claimant.claim(recordings=[CLIPS]), other.claim(recordings=[CLIPS])]
    await bench.publish(claims)
    for claim in claims:
        for content in CLIPS:
            assert await bench.upload(claim, content)
    await bench.archive()

    assert Counter(receipt(bench, claim).bags[0].existing for claim in claims) == {
        False: 1,
        True: 1,
    }
    assert len(standing(bench)) == 1
    assert list((bench.site.archive / ".incoming").rglob("*")) == []


async def test_an_arrived_copy_outlives_a_bad_match(
    bench: IntakeBench, claimant: Claimant, other: Claimant
) -> None:
    """What was sent is not thrown away for a bag that turns out to be bad."""
    claims = [claimant.claim(recordings=[CLIPS]), other.claim(recordings=[CLIPS])]
    await bench.publish(claims)
    await send_missing(bench, claims[0])
    gone(bench.site.archive / receipt(bench, claims[0]).bags[0].path)
    await send_missing(bench, claims[1])

    [bag] = receipt(bench, claims[1]).bags
    assert not bag.existing
    assert verify_bag(bench.site.archive / bag.path, ca_pem=None).ok


async def test_a_docking_is_claimed_once(bench: IntakeBench, claimant: Claimant) -> None:
    """Check 9: a second manifest for the same part of a docking is refused in its place."""
    first = claimant.claim(recordings=[], others=[b"one"])
    second = claimant.claim(recordings=[], others=[b"two"], docking_id=first.manifest.docking_id)
    third = claimant.claim(recordings=[], others=[b"three"])
    await bench.publish([first, second, third])

    said = bench.last[second.manifest.manifest_id]
    assert isinstance(said, Refusal)
    assert said.code is FindingCode.MANIFEST_CONTRADICTS
    assert bench.missing(third)
    await bench.publish([second])
    assert isinstance(bench.last[second.manifest.manifest_id], Refusal)


async def test_refused_for_another_reason_is_another_message(
    bench: IntakeBench, claimant: Claimant
) -> None:
    """The same bytes on another topic hide no fork: each is kept and counted for itself."""
    await bench.publish([claimant.claim()])
    forked = Claimant(DOCK, bench.site.key(DOCK), label="fork").claim(recordings=[[b"false"]])
    for dock in (OTHER_DOCK, DOCK, DOCK):
        topic = of_dock(dock, Channel.MANIFESTS)
        received = Received(untrusted_topic=topic, untrusted_body=forked.envelope)
        await bench.admitter.take([received])

    kept = rows(bench, "SELECT topic, code, times FROM refused_messages ORDER BY topic")
    assert kept == [
        (of_dock(DOCK, Channel.MANIFESTS), "F-ADM-007", 2),
        (of_dock(OTHER_DOCK, Channel.MANIFESTS), "F-ADM-004", 1),
    ]
    assert [row[0] for row in rows(bench, "SELECT code FROM alerts")] == ["F-ADM-007"]


async def test_what_cannot_be_closed_is_not_tried_for_ever(
    bench: IntakeBench, claimant: Claimant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep leaves alone what only a person can help; what comes in meanwhile goes on."""
    claim = claimant.claim(recordings=[CLIPS])
    await bench.publish([claim])
    name = claim.manifest.recordings[0].recording_id
    (bench.site.archive / "2026/11/22/_unfiled" / name).mkdir(parents=True)
    await send_missing(bench, claim)
    tried: list[object] = []
    monkeypatch.setattr(bench.archiver, "close", tried.append)
    await bench.archiver.sweep()
    await bench.archive()

    assert [row[0] for row in rows(bench, "SELECT code FROM alerts")] == ["E-ARC-102"]
    assert tried == []


def test_a_number_waits_once() -> None:
    """Named again and again, a group waits in its first place."""
    arrivals = Arrivals()
    for number in (3, 1, 3, 2, 1):
        arrivals.put_nowait(number)

    assert [arrivals.get_nowait() for _ in range(arrivals.qsize())] == [3, 1, 2]
