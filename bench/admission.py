"""How many manifests a second the archive admits and answers, for files that it has already."""

import asyncio
import os
import sqlite3
import ssl
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.figures import Report
from demo.site import DOCK, Site
from protocol.chain import ChainHead
from protocol.digest import sha256_hex
from protocol.envelope import keyring, open_statement, seal, take_apart
from protocol.identifiers import DockId, DockingId, ManifestId, RecordingId, mint_uuid7
from protocol.keys import SigningKey
from protocol.manifest import Manifest, Recording
from protocol.strict_json import encode
from protocol.topics import Channel, of_dock
from protocol.versions import Statement, parse_payload_type
from runtime.keys import load_signing_key
from runtime.link import Link, LinkSettings, open_link
from runtime.tls import client_context

_AT_ONCE: Final = 64


def _mint() -> str:
    return mint_uuid7(unix_ms=int(time.time() * 1000), entropy=os.urandom(10))


def _first_manifest(site: Site, key: SigningKey) -> Manifest:
    with closing(sqlite3.connect(site.journal)) as connection:
        (envelope,) = connection.execute(
            "SELECT envelope FROM manifest WHERE sequence = 1"
        ).fetchone()
    return open_statement(envelope, Statement.MANIFEST, Manifest, keyring(key.public))


def sign_chain(first: Manifest, count: int, key: SigningKey) -> list[bytes]:
    """Return *count* manifests that follow *first* and promise the content that it promised."""
    head = ChainHead(sequence=first.sequence, payload_sha256=sha256_hex(encode(first)))
    envelopes = []
    for _ in range(count):
        fields = {name: getattr(first, name) for name in Manifest.__struct_fields__}
        recordings = tuple(
            Recording(
                **{name: getattr(one, name) for name in Recording.__struct_fields__}
                | {"recording_id": RecordingId(_mint())}
            )
            for one in first.recordings
        )
        fields |= {
            "manifest_id": ManifestId(_mint()),
            "docking_id": DockingId(_mint()),
            "sequence": head.sequence + 1,
            "previous_sha256": head.payload_sha256,
            "sealed_at": datetime.now(UTC),
            "recordings": recordings,
        }
        payload = encode(Manifest(**fields))
        head = ChainHead(sequence=head.sequence + 1, payload_sha256=sha256_hex(payload))
        envelopes.append(seal(payload, Statement.MANIFEST, key))
    return envelopes


def _tls(site: Site, name: str) -> ssl.SSLContext:
    folder = site.pki / name
    return client_context(
        ca=site.pki / "ca.pem", certificate=folder / "tls.pem", key=folder / "tls.key"
    )


def _settings(site: Site, name: str) -> LinkSettings:
    return LinkSettings(host="127.0.0.1", port=site.mqtt_port, client_id=name, tls=_tls(site, name))


async def _publish_all(link: Link, envelopes: list[bytes]) -> None:
    topic = of_dock(DockId(DOCK), Channel.MANIFESTS)
    room = asyncio.Semaphore(_AT_ONCE)

    async def publish(envelope: bytes) -> None:
        try:
            await link.publish(topic, envelope, timeout_s=300)
        finally:
            room.release()

    async with asyncio.TaskGroup() as group:
        for envelope in envelopes:
            await room.acquire()
            group.create_task(publish(envelope))


async def _until_receipted(site: Site, envelopes: list[bytes]) -> float:
    async with open_link(_settings(site, DOCK)) as link:
        await link.subscribe(of_dock(DockId(DOCK), Channel.RECEIPTS))
        began = time.perf_counter()
        publishing = asyncio.create_task(_publish_all(link, envelopes))
        missing = len(envelopes)
        async for message in link.messages():
            await link.acknowledge(message)
            statement, _ = parse_payload_type(take_apart(message.payload).payload_type)
            missing -= statement is Statement.RECEIPT
            if not missing:
                break
        seconds = time.perf_counter() - began
        await publishing
        return seconds


async def _through_the_broker(site: Site, envelopes: list[bytes]) -> float:
    async with (
        open_link(_settings(site, "archive")) as reader,
        open_link(_settings(site, DOCK)) as writer,
    ):
        await reader.subscribe(of_dock(DockId(DOCK), Channel.MANIFESTS))
        began = time.perf_counter()
        publishing = asyncio.create_task(_publish_all(writer, envelopes))
        left = len(envelopes)
        async for message in reader.messages():
            await reader.acknowledge(message)
            left -= 1
            if not left:
                break
        seconds = time.perf_counter() - began
        await publishing
        return seconds


def _one_by_one_into_sqlite(work: Path, envelopes: list[bytes]) -> float:
    with closing(sqlite3.connect(work / "peer.sqlite", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE peer (sequence INTEGER PRIMARY KEY, envelope BLOB)")
        began = time.perf_counter()
        for envelope in envelopes:
            connection.execute("INSERT INTO peer (envelope) VALUES (?)", (envelope,))
        return time.perf_counter() - began


def measure_admission(report: Report, site: Site, work: Path, count: int) -> None:
    """Publish *count* manifests to a site whose archive holds their content; report the rates."""
    key = load_signing_key(site.pki / DOCK / "signing.key")
    envelopes = sign_chain(_first_manifest(site, key), count, key)
    site.start_archive()
    try:
        seconds = asyncio.run(_until_receipted(site, envelopes))
        report.add(
            "manifests: checked, committed and receipted",
            count / seconds,
            "1/s",
            note=f"{count}, files already there; promise: over 300",
        )
        site.server.stop()
        seconds = asyncio.run(_through_the_broker(site, envelopes))
        note = "nothing checked or kept"
        report.add("manifests: mosquitto alone", count / seconds, "1/s", ours=False, note=note)
    finally:
        site.stop()
    seconds = _one_by_one_into_sqlite(work, envelopes)
    note = "one commit each"
    report.add("manifests: sqlite3 insert alone", count / seconds, "1/s", ours=False, note=note)
