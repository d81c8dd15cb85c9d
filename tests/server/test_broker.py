"""Debian's mosquitto with our configuration: who may connect, and who may say and hear what."""

import asyncio
import os
import shutil
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from protocol.envelope import MAX_ENVELOPE_BYTES, MAX_PACKET_BYTES
from protocol.identifiers import DockId
from runtime.errors import LinkError, LinkLostError, LinkRefusedError
from runtime.link import Delivered, Link, LinkSettings, Message, Will, open_link
from runtime.tls import client_context
from server_agent.broker.configuration import (
    BrokerSettings,
    acl,
    mosquitto_conf,
)
from server_agent.pki.folder import PkiFolder
from tests.simulators.broker import HOST, Broker

pytestmark = pytest.mark.processes

DOCK, OTHER = DockId("dock-01"), DockId("dock-02")
OF_DOCK, OF_OTHER = "bayward/v1/docks/dock-01", "bayward/v1/docks/dock-02"
SITE = "bayward/v1/site/registry"
TIMEOUT_S = 30.0
SELF = "root" if os.geteuid() == 0 else None
NOT_AUTHORISED, TOO_LARGE = 0x87, 0x95


def make_site(directory: Path) -> PkiFolder:
    pki, now = PkiFolder(directory), datetime.now(UTC)
    pki.create_authority(now)
    pki.issue_site([HOST], now)
    for dock in (DOCK, OTHER):
        pki.issue_dock(dock, now)
    return pki


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A broker with our configuration, and the certificates of everybody at the site."""

    broker: Broker
    pki: PkiFolder

    def tls(self, name: str, *, certificates: PkiFolder | None = None) -> ssl.SSLContext:
        own = (certificates or self.pki).directory / name
        return client_context(ca=self.pki.ca, certificate=own / "tls.pem", key=own / "tls.key")

    def link(
        self,
        name: str,
        *,
        tls: ssl.SSLContext | None = None,
        client_id: str | None = None,
        will: Will | None = None,
        max_packet_bytes: int = MAX_PACKET_BYTES,
    ) -> AbstractAsyncContextManager[Link]:
        return open_link(
            LinkSettings(
                host=HOST,
                port=self.broker.port,
                client_id=client_id or name,
                tls=tls or self.tls(name),
                will=will,
                max_packet_bytes=max_packet_bytes,
            )
        )


def run_site(directory: Path, *, pki: PkiFolder, server: str, run_as: str | None) -> Broker:
    rules = directory / "acl"
    rules.write_text(acl())

    def configure(port: int) -> str:
        return mosquitto_conf(
            BrokerSettings(
                host=HOST,
                port=port,
                ca=pki.ca,
                certificate=pki.directory / server / "tls.pem",
                key=pki.directory / server / "tls.key",
                acl=rules,
                data=directory / "data",
                run_as=run_as,
            )
        )

    (directory / "data").mkdir()
    return Broker(directory / "broker", configure=configure)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    pki = make_site(tmp_path / "pki")
    with run_site(tmp_path, pki=pki, server="broker", run_as=SELF) as broker:
        yield Site(broker=broker, pki=pki)


@pytest.fixture
def debians() -> Iterator[Site]:
    with tempfile.TemporaryDirectory() as reachable:
        folder = Path(reachable)
        folder.chmod(0o755)
        pki = make_site(folder / "pki")
        shutil.chown(pki.directory / "broker/tls.key", group="mosquitto")
        (pki.directory / "broker/tls.key").chmod(0o640)
        with run_site(folder, pki=pki, server="broker", run_as=None) as broker:
            assert Path(f"/proc/{broker.pid}").owner() == "mosquitto"
            yield Site(broker=broker, pki=pki)


async def next_message(link: Link) -> Message:
    async with asyncio.timeout(TIMEOUT_S):
        async for message in link.messages():
            await link.acknowledge(message)
            return message
    raise AssertionError("nothing arrived")


async def refused(link: Link, topic: str) -> bool:
    """Whether the broker says that this client may not write there."""
    try:
        await link.publish(topic, b"?")
    except LinkRefusedError as error:
        assert error.reason_code == NOT_AUTHORISED  # noqa: PT017 -- another refusal is a failure
        return True
    return False


async def test_without_a_certificate(site: Site) -> None:
    """Who shows no certificate is not let in."""
    context = ssl.create_default_context(cafile=site.pki.ca)

    with pytest.raises(LinkError):
        async with site.link("anybody", tls=context):
            pass


async def test_without_tls(site: Site) -> None:
    """Who speaks no TLS is not let in."""
    settings = LinkSettings(host=HOST, port=site.broker.port, client_id="x", tls=None)

    with pytest.raises(LinkLostError):
        async with open_link(settings):
            pass


async def test_certificate_of_another_authority(site: Site, tmp_path: Path) -> None:
    """A certificate with the right name by another authority is not let in."""
    foreign = make_site(tmp_path / "foreign")

    with pytest.raises(LinkError):
        async with site.link(DOCK, tls=site.tls(DOCK, certificates=foreign)):
            pass


async def test_certificate_of_a_server(site: Site) -> None:
    """The broker's own certificate is for no client."""
    with pytest.raises(LinkError):
        async with site.link("broker"):
            pass


async def test_broker_with_a_docks_certificate(tmp_path: Path) -> None:
    """A dock's certificate does not let its owner pose as the broker."""
    pki = make_site(tmp_path / "pki")
    with (
        run_site(tmp_path, pki=pki, server=OTHER, run_as=SELF) as broker,
        pytest.raises(LinkLostError, match="certificate"),
    ):
        async with Site(broker=broker, pki=pki).link(DOCK):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's mosquitto becomes another user")
async def test_broker_as_debians_user(debians: Site) -> None:
    """Started by root without a user named, it serves as Debian's user mosquitto."""
    async with debians.link(DOCK) as dock:
        assert not await refused(dock, f"{OF_DOCK}/status")


@pytest.mark.parametrize(
    "word", ["status", "bays/7", "metrics", "alerts", "attestations", "manifests"]
)
async def test_dock_writes_its_own_topics(site: Site, word: str) -> None:
    """A dock writes each of its topics, and the archive reads them all."""
    async with site.link("archive") as archive, site.link(DOCK) as dock:
        await archive.subscribe(f"bayward/v1/docks/+/{word.replace('7', '+')}")

        assert await dock.publish(f"{OF_DOCK}/{word}", b"hello") is Delivered.ACCEPTED

        message = await next_message(archive)
        assert (message.topic, message.payload) == (f"{OF_DOCK}/{word}", b"hello")


@pytest.mark.parametrize(
    "topic",
    [
        *(f"{OF_OTHER}/{word}" for word in ("status", "bays/1", "metrics", "alerts", "manifests")),
        *(
            f"{OF_DOCK}/{word}"
            for word in (
                *("receipts", "commands", "attested"),
                *("bays/0", "bays/100", "bays", "x", "bays/1/x"),
            )
        ),
        *(SITE, "bayward/v1/site", "bayward/v1/docks", "x", "$SYS/broker/x"),
    ],
)
async def test_dock_writes_nothing_else(site: Site, topic: str) -> None:
    """A dock writes no other dock's topics, none of the archive's, and none of its own making."""
    async with site.link(DOCK) as dock:
        assert await refused(dock, topic)


async def test_dock_hears_only_what_is_for_it(site: Site) -> None:
    """A dock that asks for everything hears its own receipts and the site, and nothing more."""
    async with (
        site.link("archive") as archive,
        site.link(OTHER) as other,
        site.link(DOCK) as dock,
    ):
        await dock.subscribe("#")
        await dock.subscribe("$SYS/#")
        await other.publish(f"{OF_OTHER}/manifests", b"of another")
        await other.publish(f"{OF_OTHER}/status", b"of another", retain=True)
        await dock.publish(f"{OF_DOCK}/manifests", b"its own")
        await archive.publish(f"{OF_OTHER}/receipts", b"for another")
        await archive.publish(f"{OF_OTHER}/commands", b"for another")
        await archive.publish(f"{OF_OTHER}/attested", b"for another")
        await archive.publish(f"{OF_DOCK}/attested", b"its attestations")
        await archive.publish(f"{OF_DOCK}/receipts", b"for it")
        await archive.publish(SITE, b"for all")

        heard = [await next_message(dock) for _ in range(3)]

    assert [(one.topic, one.payload) for one in heard] == [
        (f"{OF_DOCK}/attested", b"its attestations"),
        (f"{OF_DOCK}/receipts", b"for it"),
        (SITE, b"for all"),
    ]


@pytest.mark.parametrize(
    "topic",
    [
        f"{OF_DOCK}/receipts",
        f"{OF_DOCK}/commands",
        f"{OF_DOCK}/attested",
        SITE,
        "bayward/v1/site/x",
    ],
)
async def test_archive_writes_receipts_and_the_site(site: Site, topic: str) -> None:
    """The archive writes every dock's receipts and what concerns the whole site."""
    async with site.link("archive") as archive:
        assert not await refused(archive, topic)


@pytest.mark.parametrize(
    "topic",
    [
        *(f"{OF_DOCK}/{word}" for word in ("status", "bays/1", "metrics", "alerts", "manifests")),
        *("bayward/v1/docks/archive/status", "bayward/v1/docks/archive/manifests"),
        *("bayward/v1/docks/archive/receipts", "x"),
    ],
)
async def test_archive_says_nothing_for_a_dock(site: Site, topic: str) -> None:
    """The archive cannot speak as a dock, not even as one of its own name."""
    async with site.link("archive") as archive:
        assert await refused(archive, topic)


@pytest.mark.parametrize(
    "topic",
    [
        *(f"{OF_DOCK}/{word}" for word in ("status", "manifests", "receipts", "bays/1")),
        *("bayward/v1/docks/console/status", "bayward/v1/docks/console/bays/1", SITE, "x"),
    ],
)
async def test_console_writes_nothing(site: Site, topic: str) -> None:
    """The console only listens."""
    async with site.link("console") as console:
        assert await refused(console, topic)


async def test_console_hears_the_docks(site: Site) -> None:
    """The console sees what the docks tell, also what they told before it came."""
    async with site.link(DOCK) as dock:
        await dock.publish(f"{OF_DOCK}/bays/3", b"ingesting", retain=True)
    async with site.link("console") as console:
        await console.subscribe("bayward/v1/docks/+/bays/+")

        assert (await next_message(console)).payload == b"ingesting"


async def test_last_will_reaches_the_archive(site: Site) -> None:
    """A dock that goes without a word is reported by the broker."""
    will = Will(topic=f"{OF_DOCK}/status", payload=b"gone", retain=True)
    async with site.link("archive") as archive:
        await archive.subscribe("bayward/v1/docks/+/status")
        with pytest.raises(asyncio.CancelledError):
            async with site.link(DOCK, will=will):
                raise asyncio.CancelledError

        assert (await next_message(archive)).payload == b"gone"


async def test_session_of_another_is_not_taken(site: Site) -> None:
    """A dock that calls itself by the archive's client id neither ends nor inherits its session."""
    async with site.link("archive") as archive:
        await archive.subscribe("bayward/v1/docks/+/manifests")
        async with site.link(DOCK, client_id="archive") as thief:
            await thief.publish(f"{OF_DOCK}/manifests", b"first")
            assert (await next_message(archive)).payload == b"first"
    async with site.link(OTHER) as other:
        await other.publish(f"{OF_OTHER}/manifests", b"for the archive that is away")
    async with site.link(DOCK, client_id="archive") as thief:
        await thief.subscribe(f"{OF_DOCK}/receipts")
        async with site.link("archive") as archive:
            await archive.publish(f"{OF_DOCK}/receipts", b"a receipt")
            assert (await next_message(archive)).payload == b"for the archive that is away"

        assert (await next_message(thief)).payload == b"a receipt"


async def test_largest_envelope_passes(site: Site) -> None:
    """The largest envelope that the protocol allows reaches the archive."""
    async with site.link("archive") as archive, site.link(DOCK) as dock:
        await archive.subscribe("bayward/v1/docks/+/manifests")

        await dock.publish(f"{OF_DOCK}/manifests", bytes(MAX_ENVELOPE_BYTES))

        assert len((await next_message(archive)).payload) == MAX_ENVELOPE_BYTES


async def test_larger_than_any_envelope(site: Site) -> None:
    """A dock that would send more is told the broker's limit, and its connection stays."""
    async with site.link(DOCK, max_packet_bytes=2 * MAX_PACKET_BYTES) as dock:
        with pytest.raises(LinkRefusedError) as caught:
            await dock.publish(f"{OF_DOCK}/manifests", bytes(MAX_PACKET_BYTES))

        assert caught.value.reason_code == TOO_LARGE
        assert not await refused(dock, f"{OF_DOCK}/manifests")


async def test_waiting_messages_outlive_an_orderly_restart(site: Site) -> None:
    """What waits for the archive is still there after the broker was restarted."""
    async with site.link("archive") as archive:
        await archive.subscribe("bayward/v1/docks/+/manifests")
    async with site.link(DOCK) as dock:
        await dock.publish(f"{OF_DOCK}/manifests", b"waiting")

    site.broker.stop()
    site.broker.start()

    async with site.link("archive") as archive:
        assert (await next_message(archive)).payload == b"waiting"


async def test_mosquitto_finds_nothing_to_complain_about(site: Site) -> None:
    """The broker reads its two files without an error."""
    async with site.link("archive"):
        pass  # whoever was served was served by a broker that runs
    log = site.broker.log.read_text()
    # Who looks whether its port is open says nothing of TLS, and is an error of that connection.
    before_anybody_came, _, _ = log.partition("New connection")

    assert "Error" not in before_anybody_came
    assert "running" in log
