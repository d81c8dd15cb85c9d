"""A recorder with a real USB serial port: asked over it, then a disk at the same connector."""

from pathlib import Path

import pytest

from demo.site import Site, SiteOptions
from protocol.messages import BayState
from tests.drivers.program import running
from tests.hardware.kernel import BootFiles
from tests.hardware.recorders import recorder
from tests.hardware.station import Station

pytestmark = pytest.mark.timeout(2_400)


def test_a_recorder_is_asked_and_comes_back_as_a_disk(
    boot: BootFiles, folder: Path, tmp_path: Path
) -> None:
    """The kernel's own driver carries the dialog; port and disk are one recorder in one bay."""
    one = recorder(tmp_path / "recorder", 1)
    image = one.image(tmp_path / "card")
    options = SiteOptions(
        bays=1, usb_ports=(("1-1", "2-1"),), driver="line-protocol-1", reconcile_s=5
    )
    site = Site(folder / "site", [one.registered], options)
    card, bay = tmp_path / "stands for the disk", tmp_path / "bay"
    card.mkdir()
    flags = (
        *("--volume", str(card), "--bay", str(bay), "--disk-mode-after", "0"),
        *("--serial", one.registered.serial, "--user-number", one.registered.officer),
        *("--battery", "42", "--clock", "1980-01-01T00:00:00"),
    )
    with Station(site, boot, folder) as station, running(*flags) as simulator:
        station.start()
        port = station.machine.plug_serial(simulator.path, "1")
        assert simulator.next_line() == "volume appeared"
        # QEMU 7.2 may end by itself when a port is taken away with bytes on their way.
        station.machine.until("! ls -l /proc/[0-9]*/fd | grep -q ttyUSB")
        station.machine.pull(port)
        station.machine.plug(image, "1")
        shown = station.until_state(1, BayState.RELEASABLE)

    assert (shown["battery_percent"], shown["recorder"]) == (42, "R-0001")
