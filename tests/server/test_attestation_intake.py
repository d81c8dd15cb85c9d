"""What docks attest is kept as it came, in a chain of each dock; what does not fit is refused."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.chain import GENESIS, ChainHead, Link
from protocol.custody import AttestationKept, parse_entry
from protocol.digest import ZERO_DIGEST, sha256_hex
from protocol.envelope import keyring, seal, take_apart
from protocol.findings import FindingCode
from protocol.registry import Registry
from protocol.strict_json import encode, parse
from protocol.topics import Channel, parse_dock_topic
from protocol.versions import Statement
from scripts.samples import attestation, signing_key
from server_agent import app
from server_agent.intake.attestations import (
    MAX_ATTESTATION_BYTES,
    Witness,
    place_attestation,
    read_attestation,
)
from server_agent.intake.checks import KnownSite, Refused
from tests.protocol.vectors import VECTORS, read_json
from tests.simulators.archive_site import DOCK, OTHER_DOCK, ArchiveSite, lay_out_site
from tests.simulators.attestation_bench import NOW, AttestationBench, Chain
from tests.simulators.dock import TIMEOUT_S

KEY = signing_key(DOCK)
CASE = VECTORS / "F-ADM-010"


@pytest.fixture
def site(tmp_path: Path) -> ArchiveSite:
    return lay_out_site(tmp_path)


@pytest.fixture
async def bench(site: ArchiveSite) -> AsyncIterator[AttestationBench]:
    one = AttestationBench(site)
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
def chain(site: ArchiveSite) -> Chain:
    return Chain(site.key(DOCK))


async def test_each_is_kept_as_it_came(bench: AttestationBench, chain: Chain) -> None:
    """Byte for byte, logged once, and answered with how far the chain is kept."""
    first, second = chain.next(), chain.next()

    [one] = await bench.send(first)
    [two] = await bench.send(second)

    assert (one.sequence, one.payload_sha256) == (1, sha256_hex(take_apart(first).payload))
    assert (two.sequence, two.payload_sha256) == (2, chain.head.payload_sha256)
    assert bench.kept() == [first, second]
    logged = [parse_entry(entry) for (entry,) in bench.rows("SELECT entry FROM custody_entries")]
    assert [one.sequence for one in logged if isinstance(one, AttestationKept)] == [1, 2]
    assert bench.refused() == {}
    assert bench.alerts() == []


async def test_again_and_again(bench: AttestationBench, chain: Chain) -> None:
    """What came before changes nothing, in whatever order, also after a new start."""
    sent = [chain.next() for _ in range(5)]
    await bench.send(*sent)
    await bench.stop()
    await bench.start()

    mixed = [*sent, *sent]
    random.Random(7).shuffle(mixed)
    [answer] = await bench.send(*mixed)

    assert answer.sequence == 5
    assert bench.kept() == sent
    assert bench.rows("SELECT count(*) FROM custody_entries") == [(5,)]
    assert bench.refused() == {}


async def test_a_gap(bench: AttestationBench, chain: Chain) -> None:
    """It is refused, kept, and told; the answer asks for the one before; then it is taken."""
    first, second, third = (chain.next() for _ in range(3))
    await bench.send(first)

    [asking] = await bench.send(third, third)
    assert asking.sequence == 1
    assert bench.refused() == {third: "F-ADM-010"}
    assert bench.rows("SELECT times FROM refused_messages") == [(2,)]
    assert bench.alerts() == [("E-ATT-102", DOCK)]

    [answer] = await bench.send(second, third)
    assert answer.sequence == 3
    assert bench.kept() == [first, second, third]


async def test_two_histories(bench: AttestationBench, chain: Chain, site: ArchiveSite) -> None:
    """What the dock signed first stays; the other one is kept as refused, and told once."""
    other = Chain(site.key(DOCK))
    await bench.send(chain.next(), chain.next())
    beginning_anew = other.next(agent="another")
    beyond = other.signed(attestation(ChainHead(sequence=2, payload_sha256=ZERO_DIGEST)))

    [answer] = await bench.send(beginning_anew, beginning_anew, beyond)

    assert answer.payload_sha256 == chain.head.payload_sha256
    assert bench.kept() == chain.sent
    assert bench.refused() == {beginning_anew: "F-ADM-007", beyond: "F-ADM-007"}
    assert bench.alerts() == [("E-ATT-101", DOCK)] * 2
    times = dict(bench.rows("SELECT body, times FROM refused_messages"))
    assert times == {beginning_anew: 2, beyond: 1}


async def test_what_is_no_attestation_of_that_dock(
    bench: AttestationBench, chain: Chain, site: ArchiveSite
) -> None:
    """Each is kept with the code of the first check that failed; the chain goes on."""
    good = chain.next()
    payload = take_apart(good).payload
    hostile = {
        b"": "F-ADM-003",
        good[:-1]: "F-ADM-003",
        good.replace(b"{", b'{"payload":"",', 1): "F-ADM-003",
        b"[" * 50_000: "F-ADM-003",
        b" " * (MAX_ATTESTATION_BYTES + 1): "F-ADM-002",
        Chain(site.key(OTHER_DOCK)).next(): "F-ADM-004",
        Chain(signing_key("somebody else")).next(): "F-ADM-004",
        seal(payload, Statement.MANIFEST, chain.key): "F-ADM-005",
        seal(payload + b"{}", Statement.ATTESTATION, chain.key): "F-ADM-005",
        seal(
            payload.replace(b'"enforced":true', b'"enforced":1'), Statement.ATTESTATION, chain.key
        ): "F-ADM-005",
        Chain(site.key(DOCK), dock=OTHER_DOCK).next(): "F-ADM-006",
    }

    for body in hostile:
        [answer] = await bench.send(body)
        assert answer.sequence == 0

    assert bench.refused() == hostile
    [answer] = await bench.send(good)
    assert answer.sequence == 1
    assert bench.alerts() == []


async def test_a_time_that_no_calendar_has(bench: AttestationBench, chain: Chain) -> None:
    """A time with a zone that lies before year 1 in UTC is refused, and breaks nothing."""
    payload = encode(attestation()).replace(
        b'"made_at":"2026-11-23T09:30:00Z"', b'"made_at":"0001-01-01T00:00:00+05:00"'
    )
    assert b"0001-01-01" in payload

    await bench.send(seal(payload, Statement.ATTESTATION, chain.key))

    assert list(bench.refused().values()) == ["F-ADM-005"]
    assert bench.kept() == []


async def test_a_stranger(bench: AttestationBench, chain: Chain) -> None:
    """A dock that nobody registered is answered nothing, and what it said is kept."""
    body = chain.next()

    assert await bench.send(body, dock="dock-77") == []

    assert bench.refused() == {body: "F-ADM-001"}


async def test_another_docks_topic(bench: AttestationBench, chain: Chain) -> None:
    """A genuine attestation does not count for the dock on whose topic it is replayed."""
    body = chain.next()

    [answer] = await bench.send(body, dock=OTHER_DOCK)

    assert (answer.dock, answer.sequence) == (OTHER_DOCK, 0)
    assert bench.refused() == {body: "F-ADM-004"}


async def _with_new_key(bench: AttestationBench) -> Chain:
    """Register another key for the dock, and return a chain that goes on with it."""
    await bench.stop()
    bench.now += timedelta(days=1)
    site = bench.site
    (site.root / "pki" / DOCK).rename(site.root / "pki" / "old")
    site.signing[DOCK] = site.authority.issue_signing(DOCK)
    await bench.start()
    return Chain(site.key(DOCK))


async def test_a_key_that_was_replaced(bench: AttestationBench, chain: Chain) -> None:
    """What the dock signed with it before it got the new one is taken, and what is kept stays."""
    kept, late = chain.next(), chain.next()
    await bench.send(kept)
    renewed = await _with_new_key(bench)
    renewed.head = chain.head

    [answer] = await bench.send(late, renewed.next())

    assert answer.sequence == 3
    assert bench.refused() == {}


async def test_an_old_key_signs_nothing_after_a_new_one(
    bench: AttestationBench, chain: Chain
) -> None:
    """Who has a key that was replaced cannot go on with a chain that goes on without it."""
    await bench.send(chain.next())
    renewed = await _with_new_key(bench)
    renewed.head = chain.head
    await bench.send(renewed.next())

    thief = Chain(chain.key, head=renewed.head)
    [answer] = await bench.send(thief.next())

    assert answer.sequence == 2
    assert list(bench.refused().values()) == ["F-ADM-004"]
    assert await bench.send(chain.sent[0])  # what is kept, again
    assert len(bench.kept()) == 2


def test_vector() -> None:
    """The committed message is refused as its folder says, by the keys of the vectors' registry."""
    told = read_json(CASE / "case.json")
    payload = take_apart((CASE / told["registry"]).read_bytes()).payload
    site = KnownSite.of(parse(payload, Registry, max_bytes=1 << 20))
    topic = parse_dock_topic(told["topic"])

    read = read_attestation(
        topic.dock, (CASE / told["message"]).read_bytes(), keys=site.docks[topic.dock]
    )
    assert isinstance(read, Witness)
    refused = place_attestation(read, head=GENESIS, recorded_sha256=None)

    assert topic.channel is Channel.ATTESTATIONS
    assert isinstance(refused, Refused)
    assert refused.code.value == told["expect"] == CASE.name


@given(
    at=st.integers(min_value=0, max_value=20_000),
    new=st.binary(max_size=8),
    cut=st.integers(min_value=0, max_value=8),
)
def test_a_changed_message_is_never_taken(at: int, new: bytes, cut: int) -> None:
    """Whatever is changed in it, it is refused, or it is what was signed."""
    good = Chain(KEY).next()
    at %= len(good)
    changed = good[:at] + new + good[at + cut :]

    read = read_attestation(DOCK, changed, keys=keyring(KEY.public))

    if isinstance(read, Witness):
        assert take_apart(changed).payload == take_apart(good).payload
    else:
        assert read.dock == DOCK


@given(order=st.permutations(range(4)), forked=st.booleans())
def test_a_chain_is_one_history(order: list[int], forked: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    """In whatever order they come and come again, what is taken is 1, 2, 3 and so on, joined."""
    chain = Chain(KEY)
    sent = [chain.next() for _ in range(4)]
    if forked:
        other = Chain(KEY)
        sent[2] = [other.next(agent="other") for _ in range(3)][2]
    head, recorded = GENESIS, dict[int, str]()
    for index in [*order, *order, *order, *order]:
        read = read_attestation(DOCK, sent[index], keys=keyring(KEY.public))
        assert isinstance(read, Witness)
        number = read.attestation.sequence
        verdict = place_attestation(read, head=head, recorded_sha256=recorded.get(number))
        if verdict is Link.NEXT:
            assert read.attestation.previous_sha256 == head.payload_sha256
            head = ChainHead(sequence=number, payload_sha256=read.payload_sha256)
            recorded[number] = read.payload_sha256
        elif isinstance(verdict, Refused):
            assert verdict.code in {FindingCode.CHAIN_FORKED, FindingCode.CHAIN_GAP}

    assert list(recorded) == ([1, 2] if forked else [1, 2, 3, 4])


async def test_a_dock_that_attests_no_more(bench: AttestationBench, chain: Chain) -> None:
    """It is told once, after a day and two hours; the next one ends it, and it is told anew."""
    await bench.send(chain.next())
    for hours, alerts in ((26, []), (1, ["E-ATT-103"]), (40, ["E-ATT-103"])):
        bench.now += timedelta(hours=hours)
        await bench.note_silence()
        assert [code for code, _ in bench.alerts()] == alerts
    await bench.stop()
    await bench.start()
    await bench.note_silence()
    assert bench.rows("SELECT dock, over_at FROM alerts") == [(DOCK, None)]

    await bench.send(chain.sent[0])
    assert bench.rows("SELECT dock, over_at FROM alerts") == [(DOCK, None)]
    await bench.send(chain.next())
    await bench.note_silence()
    [(over_at,)] = bench.rows("SELECT over_at FROM alerts")
    assert over_at is not None

    bench.now += timedelta(hours=27)
    await bench.note_silence()
    assert [code for code, _ in bench.alerts()] == ["E-ATT-103"] * 2


async def test_who_never_attested_is_not_missed(bench: AttestationBench, chain: Chain) -> None:
    """Nor is a dock that is registered no more."""
    await bench.note_silence()
    assert bench.alerts() == []

    await bench.send(chain.next())
    bench.site.docks = (OTHER_DOCK,)
    bench.site.write_registry()
    await bench.stop()
    bench.now += timedelta(days=3)
    await bench.start()
    await bench.note_silence()
    assert bench.alerts() == []


class StoppedError(Exception):
    """Stands for a power cut: nothing of ours catches it."""


async def test_stopped_at_every_statement(site: ArchiveSite, chain: Chain) -> None:
    """Wherever an archive stops while it takes one in, that one is kept and logged once."""
    first, second, third = (chain.next() for _ in range(3))
    bench = AttestationBench(site)
    await bench.start()
    await bench.send(first)
    await bench.stop()
    for allowed in itertools.count():
        await bench.start()
        rows = bench.kept(), bench.rows("SELECT count(*) FROM custody_entries")
        with bench.stopping_after(allowed, StoppedError) as stopped, suppress(StoppedError):
            await bench.send(third, second)
        await bench.stop()
        if not stopped:
            break
        assert (bench.kept(), bench.rows("SELECT count(*) FROM custody_entries")) == rows
        assert bench.refused() == {}

    assert allowed > 5
    assert bench.kept() == [first, second]
    assert bench.refused() == {third: "F-ADM-010"}
    assert bench.alerts() == [("E-ATT-102", DOCK)]
    assert bench.rows("SELECT count(*) FROM custody_entries") == [(2,)]


async def test_the_archive_looks_now_and_then(
    site: ArchiveSite, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it runs, it notices who attests no more."""
    bench = AttestationBench(site)
    await bench.start()
    await bench.send(chain.next())
    await bench.stop()
    monkeypatch.setattr(app, "_SWEEP_S", 0.05)

    async with app.serve(site.configure(), clock=lambda: NOW + timedelta(hours=27)):
        async with asyncio.timeout(TIMEOUT_S):
            while not bench.alerts():  # noqa: ASYNC110 - another program's eyes get no event
                await asyncio.sleep(0.02)

    assert bench.alerts() == [("E-ATT-103", DOCK)]
