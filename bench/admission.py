"""How many manifests of new content a second the archive admits, with a catalogue that is full.

Admitted is: published by its dock over MQTT and TLS, checked (signature, schema, chain, registry,
content), committed durably, and answered to the dock by a signed admission.
"""

import asyncio
import os
import sqlite3
import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import uvloop

from bench.figures import Report
from bench.main_job import prepared_site
from bench.manifests import RECORDER, Content, signed_chain
from bench.mqtt_dock import DockClient
from bench.peers import timed
from bench.prefill import fill_catalogue
from demo.programs import DemoError, ours, run_tool
from demo.site import Site
from protocol.envelope import keyring, open_statement
from protocol.identifiers import DockId
from protocol.receipt import Admission, AdmissionState
from protocol.topics import Channel, of_all_docks, of_dock
from protocol.versions import Statement
from runtime.keys import load_certificate_key
from runtime.tls import client_context

ADMITTED: Final = "manifests: checked, committed and answered"
BROKER_ALONE: Final = "manifests: mosquitto alone"

_DOCKS: Final = 8
_TIMEOUT_S: Final = 600.0
_CLIP_BYTES: Final = 300 << 20

Chains = Mapping[str, Sequence[bytes]]


def measure_admission(report: Report, root: Path, *, manifests: int, recordings: int) -> None:
    """Let docks publish *manifests* to an archive that knows *recordings*; report the rates."""
    site = prepared_site(root / "admission")
    docks = [f"dock-{number:02d}" for number in range(1, _DOCKS + 1)]
    _register(site, docks)
    site.start_archive()  # makes the tables
    site.stop()
    catalogue = site.root / "server" / "catalogue.sqlite"
    recorders = [RECORDER.recorder_id]
    seconds = timed(lambda: fill_catalogue(catalogue, recordings, recorders=recorders))
    print(f"{recordings:,} recordings written into the catalogue in {seconds:.0f} s")
    chains = {dock: signed_chain(site, dock, _contents(manifests // _DOCKS)) for dock in docks}
    count = sum(map(len, chains.values()))
    site.start_archive()
    try:
        seconds, answers = uvloop.run(exchange(site, chains))
        _check(site, catalogue, chains, answers)
        note = f"{count} of {_DOCKS} docks, {recordings:,} recordings archived before"
        report.add(ADMITTED, count / seconds, "1/s", note=note)
        site.server.stop()
        seconds = uvloop.run(_through_the_broker(site, chains))
        note = "nothing checked, kept or answered"
        report.add(BROKER_ALONE, count / seconds, "1/s", ours=False, note=note)
    finally:
        site.stop()
    seconds = _one_by_one_into_sqlite(site.root / "peer.sqlite", chains)
    note = "one commit each"
    report.add("manifests: sqlite3 insert alone", count / seconds, "1/s", ours=False, note=note)


def _contents(manifests: int) -> list[list[Content]]:
    """Return for each manifest the one to three clips that it promises."""
    return [[_new_content() for _ in range(number % 3 + 1)] for number in range(manifests)]


def _new_content() -> Content:
    return Content(sha256=os.urandom(32).hex(), size_bytes=_CLIP_BYTES)


def _register(site: Site, docks: Sequence[str]) -> None:
    registry = Path(site.config("registry"))
    text = registry.read_text()
    for dock in docks[1:]:
        run_tool(ours("server-agent", "pki", "issue", "--dir", str(site.pki), "--dock", dock))
        text += (
            f'[[docks]]\ndock = "{dock}"\nname = "{dock}"\n'
            f'certificate = "pki/{dock}/signing.pem"\n\n'
        )
    registry.write_text(text)


def _tls(site: Site, name: str) -> ssl.SSLContext:
    folder = site.pki / name
    return client_context(
        ca=site.pki / "ca.pem", certificate=folder / "tls.pem", key=folder / "tls.key"
    )


async def exchange(site: Site, chains: Chains) -> tuple[float, list[bytes]]:
    """Let docks publish their manifests.

    Returns:
        How long it took from the first manifest to the last answer, and the answers.
    """
    answers: list[bytes] = []
    all_there = asyncio.Event()
    count = sum(map(len, chains.values()))

    def received(envelope: bytes) -> None:
        answers.append(envelope)
        if len(answers) == count:
            all_there.set()

    clients = {}
    for dock in chains:
        manifests, receipts = (
            of_dock(DockId(dock), one) for one in (Channel.MANIFESTS, Channel.RECEIPTS)
        )
        clients[dock] = DockClient(dock, manifests, received)
        await clients[dock].connect(site.mqtt_port, _tls(site, dock), receipts)
    began = time.perf_counter()
    for dock, envelopes in chains.items():
        clients[dock].publish(envelopes)
    async with asyncio.timeout(_TIMEOUT_S):
        await all_there.wait()
    seconds = time.perf_counter() - began
    for client in clients.values():
        client.close()
    return seconds, answers


def _check(site: Site, catalogue: Path, chains: Chains, answers: Sequence[bytes]) -> None:
    """Raise DemoError unless each manifest was admitted, and is in the catalogue."""
    archive = keyring(load_certificate_key(site.pki / "archive" / "signing.pem"))
    admitted = {
        (one.dock, one.sequence)
        for one in (
            open_statement(answer, Statement.ADMISSION, Admission, archive) for answer in answers
        )
        if one.state is AdmissionState.ADMITTED and one.missing
    }
    marks = ", ".join("?" * len(chains))
    with closing(sqlite3.connect(f"file:{catalogue}?mode=ro", uri=True)) as connection:
        query = f"SELECT count(*) FROM manifests WHERE state = 'admitted' AND dock IN ({marks})"  # noqa: S608 -- ours
        [(kept,)] = connection.execute(query, list(chains)).fetchall()
    count = sum(map(len, chains.values()))
    if not len(admitted) == kept == count:
        raise DemoError(f"of {count} manifests {len(admitted)} were admitted and {kept} are kept")


async def _through_the_broker(site: Site, chains: Chains) -> float:
    count = sum(map(len, chains.values()))
    all_there = asyncio.Event()
    seen = 0

    def received(_: bytes) -> None:
        nonlocal seen
        seen += 1
        if seen == count:
            all_there.set()

    reader = DockClient("bayward-archive", "", received)
    await reader.connect(site.mqtt_port, _tls(site, "archive"), of_all_docks(Channel.MANIFESTS))
    writers = []
    for dock in chains:
        topic = of_dock(DockId(dock), Channel.MANIFESTS)
        writers.append(DockClient(dock, topic, received))
        await writers[-1].connect(
            site.mqtt_port, _tls(site, dock), of_dock(DockId(dock), Channel.RECEIPTS)
        )
    began = time.perf_counter()
    for writer, envelopes in zip(writers, chains.values(), strict=True):
        writer.publish(envelopes)
    async with asyncio.timeout(_TIMEOUT_S):
        await all_there.wait()
    seconds = time.perf_counter() - began
    for client in (reader, *writers):
        client.close()
    return seconds


def _one_by_one_into_sqlite(path: Path, chains: Chains) -> float:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE peer (sequence INTEGER PRIMARY KEY, envelope BLOB)")
        began = time.perf_counter()
        for envelopes in chains.values():
            for envelope in envelopes:
                connection.execute("INSERT INTO peer (envelope) VALUES (?)", (envelope,))
        return time.perf_counter() - began
