"""How soon the first byte of a recorder is copied, on a real kernel with real USB, in QEMU.

Every instruction there is emulated, some twenty times slower than on a dock's own processor: what
is measured is an upper bound, as the time that passes beyond the kernel's own enumeration.
"""

import sys
import tempfile
from pathlib import Path
from typing import Final

from bench.figures import Report
from demo.programs import DemoError
from demo.site import Site, SiteOptions
from protocol.messages import BayState
from tests.hardware.kernel import boot_files
from tests.hardware.recorders import recorder
from tests.hardware.station import Station

FIRST_BYTE: Final = "plug: disk known to the kernel → first byte copied (emulated machine)"

_TIMES: Final = 5
_PORTS: Final = tuple((f"1-{number}", f"2-{number}") for number in range(1, _TIMES + 1))

# Prints when the kernel had the disk, and when the bay shows the first byte; both by one clock.
_WATCH: Final = """
import json, os, socket, sys, threading, time
bay, found = int(sys.argv[2]), {}
def disk():
    ports = sys.argv[3:]
    while "disk" not in found:
        for name in os.listdir("/sys/block"):
            path = os.path.realpath("/sys/block/" + name)
            if any("/" + port + "/" in path for port in ports):
                found["disk"] = time.monotonic()
        time.sleep(0.005)
looking = threading.Thread(target=disk)
looking.start()
with socket.socket(socket.AF_UNIX) as line:
    line.connect(sys.argv[1])
    line.sendall(b'{"command": "watch"}\\n')
    print("watching", flush=True)
    with line.makefile("rb") as file:
        for one in file:
            state = next(one for one in json.loads(one)["bays"] if one["bay"] == bay)
            if state.get("bytes_done", 0):
                found["byte"] = time.monotonic()
                break
looking.join()
print(found["byte"] - found["disk"], flush=True)
"""


def measure_plug(report: Report) -> None:
    """Plug recorders in, one after the other, and take the middle of what they took.

    Raises:
        DemoError: The machine could not be made or did not answer.
    """
    print("a recorder is plugged in: QEMU boots first")
    with tempfile.TemporaryDirectory(prefix="plug-") as name:
        try:
            seconds = sorted(_measure(Path(name)))
        except AssertionError as error:
            raise DemoError(f"in QEMU: {error}") from error
    note = f"{_TIMES} recorders: {', '.join(f'{one:.2f}' for one in seconds)} s"
    report.add(FIRST_BYTE, seconds[len(seconds) // 2], "s", note=note)


def _measure(folder: Path) -> list[float]:
    recorders = [
        recorder(folder / "recorders" / str(number), number) for number in range(1, _TIMES + 1)
    ]
    options = SiteOptions(bays=_TIMES, usb_ports=_PORTS)
    site = Site(folder / "site", [one.registered for one in recorders], options)
    found = []
    with Station(site, boot_files(), folder) as station:
        station.start()
        machine = station.machine
        for number, one in enumerate(recorders, start=1):
            log = f"/run/watch-{number}.txt"
            words = (str(site.control_socket), str(number), *_PORTS[number - 1])
            machine.start(sys.executable, "-c", _WATCH, *words, log=log)
            machine.until(f"grep -q watching {log}")
            machine.plug(one.image(folder / f"card-{number}"), str(number))
            station.until_state(number, BayState.RELEASABLE)
            found.append(float(machine.until(f"tail -n 1 {log} | grep '[0-9]'")))
    return found
