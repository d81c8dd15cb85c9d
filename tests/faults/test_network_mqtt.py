"""What a dock and an archive say over MQTT, on a connection that is cut at any of its bytes.

Each session has a handshake, CONNECT, SUBSCRIBE, PUBLISH and their acknowledgements on it, both
ways. Wherever one is cut, every manifest is heard in the order of the chain and receipted, and
every file is archived once.
"""

import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from runtime.tls import client_context, server_context
from tests.edge.test_uplink import authority, broker, service, tus
from tests.simulators.archive_service import ArchiveService
from tests.simulators.broker import Broker
from tests.simulators.certificates import Authority
from tests.simulators.fault_proxy import HARMLESS, Ending, Fault, FaultProxy, Way, lay_proxy
from tests.simulators.sealed_manifests import DOCK
from tests.simulators.tus_archive import TusArchive
from tests.simulators.uplink_dock import Dock, open_dock

__all__ = ["authority", "broker", "service", "tus"]  # fixtures

pytestmark = pytest.mark.processes

# The first packets are short, and each ends within these: header, length, identifier, properties.
FIRST_BYTES = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987)
PARTS = 12


@pytest.fixture(params=["TLS", "MQTT"])
async def cable(
    request: pytest.FixtureRequest, broker: Broker, authority: Authority
) -> AsyncIterator[FaultProxy]:
    """The cable to the broker; its cuts count the bytes on the wire, or those within TLS."""
    near: ssl.SSLContext | None = None
    far: ssl.SSLContext | None = None
    if request.param == "MQTT":
        between, dock = authority.issue_tls("between"), authority.issue_tls(DOCK)
        near = server_context(ca=authority.ca, certificate=between.certificate, key=between.key)
        far = client_context(ca=authority.ca, certificate=dock.certificate, key=dock.key)
    async with lay_proxy(broker.host, broker.port, near_tls=near, far_tls=far) as laid:
        yield laid


@pytest.fixture
async def dock(
    tmp_path: Path, authority: Authority, cable: FaultProxy, tus: TusArchive
) -> AsyncIterator[Dock]:
    async with open_dock(tmp_path, authority, cable.port, tus) as opened:
        yield opened


def in_order_of_the_chain(heard: Sequence[bytes], sealed: Sequence[bytes]) -> bool:
    """Whether what was heard, each at its first time, is what was sealed."""
    return list(dict.fromkeys(heard)) == list(sealed)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("ending", [Ending.RESET, Ending.FIN])
@pytest.mark.parametrize("way", list(Way))
async def test_cut_anywhere_each_manifest_is_receipted_once(
    dock: Dock, service: ArchiveService, cable: FaultProxy, way: Way, ending: Ending
) -> None:
    """Cut in any packet of either end, what is said is said again until it is answered."""
    async with dock.online():
        await dock.seal([[b"measured"]])
        await dock.until_receipted(1)
    whole = cable.passed[way]
    places = {*FIRST_BYTES, *(whole * part // PARTS for part in range(1, PARTS)), whole - 1}

    for number, place in enumerate(sorted(places), start=2):
        await dock.seal([[b"%d" % number]])
        cable.script(Fault(way=way, after_bytes=place, ending=ending), HARMLESS)
        async with dock.online():
            await dock.until_receipted(number)
        cable.unscript()

    sealed = [one.envelope for one in dock.dockings.sealed.values()]
    assert in_order_of_the_chain(service.heard.manifests, sealed)
    assert sorted(service.archive.tus.files.values()) == sorted(
        [b"measured", *(b"%d" % number for number in range(2, len(places) + 2))]
    )
    # Most cuts came before a session had said all that it had to.
    assert len(cable.struck) > len(places) // 2
