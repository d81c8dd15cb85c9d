"""The power of the whole machine is cut, and comes back: kernel, broker, archive and dock."""

from pathlib import Path

import pytest

from demo.programs import ours
from demo.site import Site, SiteOptions
from protocol.messages import BayState
from tests.hardware.kernel import BootFiles
from tests.hardware.recorders import recorder
from tests.hardware.station import Station

pytestmark = pytest.mark.timeout(2_400)

MIB = 1 << 20


def test_everything_is_archived_once_after_power_cuts(
    boot: BootFiles, folder: Path, tmp_path: Path
) -> None:
    """Cut while it reads and again later, with the recorder left in its bay: nothing is lost.

    The recorder is there when the machine starts, so nobody has to plug it in again.
    """
    one = recorder(tmp_path / "recorder", 1, clips=3, clip_bytes=12 * MIB)
    image = one.image(tmp_path / "card")
    options = SiteOptions(
        bays=1, usb_ports=(("1-1", "2-1"),), read_limit_bytes_s=2 * MIB, reconcile_s=5
    )
    site = Site(folder / "site", [one.registered], options)
    station = Station(site, boot, folder)
    for at_bytes in (5 * MIB, 20 * MIB):
        with station:
            station.machine.plug(image, "1")
            station.start()
            station.until(
                1, f"bay['bytes_done'] > {at_bytes} or bay['state'] in ('sealed', 'releasable')"
            )
    with station:
        station.machine.plug(image, "1")
        station.start()
        station.until_state(1, BayState.RELEASABLE)

        archived = station.archived()
        verify = ours("server-agent", "verify", "--ca", f"{site.pki}/ca.pem", str(site.archive))
        verified = station.machine.run(*verify).out

    assert {digest: archived.get(digest) for digest in one.digests.values()} == dict.fromkeys(
        one.digests.values(), 1
    )
    assert "0 with findings" in verified
