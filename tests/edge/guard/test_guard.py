"""edge-guard itself, as root of a network that is a namespace: what breaks the rule is shut."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.guard.messages import Word
from protocol.manifest import Isolation
from tests.simulators.guarded_lan import CONFIG, PATIENCE_S, Guarded, prepared
from tests.simulators.lan import (
    ARCHIVE,
    DOCK,
    INTERNET,
    LAN,
    ROUTER,
    Lan,
)

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has namespaces of its own"),
]


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    """Return a clean network with edge-guard keeping it."""
    with prepared(default_route=False) as made:
        made.start()
        yield made


def codes(word: Word) -> set[str]:
    return {one.code for one in word.incident}


def rules(guarded: Guarded) -> str:
    return guarded.site.dock.run("nft", "list", "ruleset")


def test_a_network_that_keeps_the_rule(guarded: Guarded) -> None:
    """It holds, the table is there, and a look from outside of the daemon finds nothing."""
    word = guarded.until(lambda word: word.isolation is Isolation.HOLDING)
    audit = guarded.run("audit")
    status = guarded.run("status")

    assert (word.open, word.incident, word.enforced) == ((), (), True)
    assert word.table_sha256 is not None
    assert "policy drop" in rules(guarded)
    assert (audit.returncode, "holding" in audit.stdout) == (0, True), audit.stdout
    assert (status.returncode, status.stdout.startswith("holding since")) == (0, True)


@pytest.mark.parametrize(
    "command",
    [
        "nft flush ruleset",
        "nft delete table inet bayward_guard",
        "nft flush chain inet bayward_guard go_out",
        "nft insert rule inet bayward_guard go_out accept",
        "nft add chain inet bayward_guard another",
    ],
)
def test_a_table_that_somebody_changes_is_put_back(guarded: Guarded, command: str) -> None:
    """Whatever was done to it."""
    before = guarded.word().table_sha256

    guarded.site.dock.run(*command.split())
    word = guarded.until_restored("E-ISO-101")

    assert word.table_sha256 == before
    assert word.open == ()
    assert guarded.run("audit").returncode == 0


def test_a_way_out_is_closed(guarded: Guarded) -> None:
    """A default route, one to somewhere else, and one of another table."""
    dock = guarded.site.dock
    for words in (
        f"route add default via {ROUTER}",
        f"route add 198.51.100.0/24 via {ROUTER}",
        f"route add default via {ROUTER} table 77",
        "-6 route add default dev eth0",
    ):
        dock.ip(words)
    word = guarded.until_restored("E-ISO-102")

    left = dock.ip("route show table all") + dock.ip("-6 route show table all")
    assert "default" not in left
    assert "198.51.100" not in left
    assert any(ROUTER in one.text for one in word.incident)


def test_another_interface_is_shut(guarded: Guarded) -> None:
    """A stick that somebody plugs in to update it."""
    guarded.site.plug("wwan0")
    word = guarded.until_restored("E-ISO-104")

    assert "UP" not in guarded.site.dock.ip("-o link show wwan0").partition(">")[0]
    assert "wwan0" in word.incident[0].subject


def test_a_foreign_address_is_taken_away(guarded: Guarded) -> None:
    """As a strange DHCP server gives it."""
    guarded.site.dock.ip("address add 100.64.3.4/10 dev eth0")
    guarded.until_restored("E-ISO-105")

    assert "100.64" not in guarded.site.dock.ip("address")


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ("net.ipv4.ip_forward", "E-ISO-106"),
        ("net.ipv6.conf.all.forwarding", "E-ISO-106"),
        ("net.ipv6.conf.eth0.accept_ra", "E-ISO-107"),
    ],
)
def test_a_setting_of_the_kernel_is_set_back(guarded: Guarded, setting: str, code: str) -> None:
    """Nothing passes through a dock, and no router is believed."""
    guarded.site.dock.run("sysctl", "-qw", f"{setting}=1")
    guarded.until_restored(code)

    assert guarded.site.dock.run("sysctl", "-n", setting).strip() == "0"


def test_a_name_server_is_told_until_it_is_gone(guarded: Guarded) -> None:
    """It cannot be shut: whose file it is, nobody knows. Until it is gone the rule is broken."""
    guarded.resolvers.write_text("nameserver 127.0.0.53\nnameserver 9.9.9.9\n")
    broken = guarded.until(lambda word: word.isolation is Isolation.BREACHED)
    audit = guarded.run("audit", "--json")
    guarded.resolvers.write_text("# none\n")
    guarded.until_restored("E-ISO-103")

    assert [one.subject for one in broken.open] == ["/etc/resolv.conf 9.9.9.9"]
    assert audit.returncode == 3
    assert json.loads(audit.stdout)["breaches"][0]["code"] == "E-ISO-103"


def test_killed_it_leaves_the_table_behind(guarded: Guarded) -> None:
    """Nothing gets out before it is back, and then it holds as before."""
    guarded.program.kill()
    before = guarded.site.heard("internet")
    guarded.site.dock.ip(f"route add default via {ROUTER}")
    for port in (53, 80, 443):
        with socket_in(guarded.site, INTERNET, port) as asked:
            assert asked.wait(timeout=PATIENCE_S) != 0
    guarded.start()
    guarded.until_restored("E-ISO-102")

    assert guarded.site.heard("internet") == before
    assert "policy drop" in rules(guarded)


def _is_frame_sent(guarded: Guarded) -> bool:
    """Have a packet socket send a frame to the internet, and return whether it left the dock."""
    send = (
        "import socket, sys; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW);"
        " head = bytes.fromhex(sys.argv[1].replace(':', '')) + bytes(6);"
        " s.sendto(head + b'\\x08\\0' + bytes(46), ('eth0', 0))"
    )
    command = guarded.site.dock.enter(sys.executable, "-c", send, guarded.site.hardware)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0 or "No buffer space" in done.stderr, done.stderr
    return done.returncode == 0


def test_frames_of_packet_sockets_are_refused(guarded: Guarded) -> None:
    """From the start, and of an interface that came later; that it did is no breach."""
    at_first = _is_frame_sent(guarded)
    guarded.site.dock.ip("link delete eth0")
    guarded.site.plug("eth0")
    frames = ("nft", "list", "table", "netdev", "bayward_guard")
    guarded.program.wait_until(lambda: not _is_frame_sent(guarded), timeout_s=PATIENCE_S)

    assert not at_first
    assert 'device "eth0"' in guarded.site.dock.run(*frames)
    assert guarded.word().refuses_frames
    assert "E-ISO-101" not in codes(guarded.word())


def test_a_table_of_frames_is_put_back(guarded: Guarded) -> None:
    """It is a part of the rule as the other one is."""
    guarded.site.dock.run("nft", "delete table netdev bayward_guard")

    guarded.until_restored("E-ISO-101")

    assert not _is_frame_sent(guarded)


def test_stopped_it_leaves_the_table_behind(guarded: Guarded) -> None:
    """There is no switch that turns the rule off by ending the program."""
    guarded.program.stop()

    assert "policy drop" in rules(guarded)


def test_a_users_own_table_stays(guarded: Guarded) -> None:
    """Ours is one of many; what others refuse is refused, what they let through is not."""
    mine = "table ip mine { chain out { type filter hook output priority 50; accept; }; }"
    guarded.site.dock.run("nft", mine)
    guarded.site.dock.run("nft", "delete table inet bayward_guard")
    guarded.until_restored("E-ISO-101")

    assert "table ip mine" in rules(guarded)


def test_a_connection_from_before_is_cut(tmp_path: Path) -> None:
    """A program that has a line to the internet when the guard comes has none any more."""
    del tmp_path
    with prepared(default_route=True) as made:
        talk = (
            "import socket, sys; s = socket.create_connection(sys.argv[1:3], 20);"
            " print('on', flush=True); sys.stdin.readline(); s.sendall(b'x' * 1000);"
            " print('sent', flush=True); sys.stdin.readline()"
        )
        with (
            serving(made.site, INTERNET, 443),
            subprocess.Popen(
                made.site.dock.enter(sys.executable, "-c", talk, INTERNET, "443"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as program,
        ):
            assert program.stdin is not None
            assert program.stdout is not None
            assert program.stdout.readline() == "on\n"
            made.start()
            before = made.site.heard("internet")
            program.stdin.write("\n")
            program.stdin.flush()
            assert program.stdout.readline() == "sent\n"  # into the kernel, and no further
            made.until_restored("E-ISO-102")
            after = made.site.heard("internet")
            program.kill()

    assert after == before


def test_the_archive_is_reached(guarded: Guarded) -> None:
    """What the rule is for goes on: the broker's port is reached, and no other one."""
    with serving(guarded.site, ARCHIVE, 8883), serving(guarded.site, ARCHIVE, 8884):
        with socket_in(guarded.site, ARCHIVE, 8883) as asked:
            assert asked.wait(timeout=PATIENCE_S) == 0
        with socket_in(guarded.site, ARCHIVE, 8884) as asked:
            assert asked.wait(timeout=PATIENCE_S) != 0


def test_nobody_comes_in(guarded: Guarded) -> None:
    """Whatever listens on the dock: only ssh is answered, and only for the technician's address."""
    site = guarded.site
    site.outside.ip("address add 192.168.10.9/24 dev o-eth0")
    tries = {
        (source, port): _calls(site, source, port)
        for source in (ARCHIVE, "192.168.10.9")
        for port in (22, 8443)
    }

    assert tries == {
        (ARCHIVE, 22): False,
        (ARCHIVE, 8443): False,
        ("192.168.10.9", 22): True,
        ("192.168.10.9", 8443): False,
    }


def _calls(site: Lan, source: str, port: int) -> bool:
    """Return whether somebody outside reaches a port of the dock."""
    call = (
        "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])),"
        " timeout=3, source_address=(sys.argv[3], 0))"
    )
    with listening(site.dock.enter, DOCK, port):
        done = subprocess.run(
            site.outside.enter(sys.executable, "-c", call, DOCK, str(port), source),
            capture_output=True,
            check=False,
            timeout=PATIENCE_S,
        )
    return done.returncode == 0


def test_a_dry_run_says_that_it_is_one() -> None:
    """Nothing is loaded, nothing is shut, and nobody may think that the rule is kept."""
    with prepared(default_route=True) as made:
        made.config.write_text(f"{CONFIG}dry_run = true\n")
        made.start()
        word = made.until(lambda word: bool(word.open))
        status = made.run("status")

        assert (word.isolation, word.enforced) == (Isolation.NOT_ENFORCED, False)
        assert "bayward_guard" not in rules(made)
        assert "default" in made.site.dock.ip("route")
        assert (status.returncode, "NOTHING IS REFUSED" in status.stdout) == (3, True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((LAN, "0.0.0.0/0"), "may lead to the internet"),
        ((LAN, "192.168.11.0/24"), "would be locked out"),
        (("eth0", "lo"), "this machine itself"),
        ((f'"{LAN}"', '"192.168.10.1/24"'), "has host bits set"),
        ((f'"{ARCHIVE}"', '"archive.example"'), "no name server is ever asked"),
    ],
)
def test_a_configuration_that_must_not_be_obeyed(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    """It opens a way out, or locks the archive out: the reason is said, and nothing is loaded."""
    config = tmp_path / "edge.toml"
    config.write_text(CONFIG.replace(*change))
    guard = (sys.executable, "-m", "edge_agent.guard_cli", "--config", str(config))
    for word in ("check-config", "run"):
        done = subprocess.run(
            ("unshare", "--net", *guard, word),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 1
        assert said in done.stdout + done.stderr


@contextlib.contextmanager
def socket_in(site: Lan, address: str, port: int) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a program on the dock that ends with 0 if it reaches a port."""
    call = "import socket, sys; socket.create_connection(sys.argv[1:3], timeout=3)"
    command = site.dock.enter(sys.executable, "-c", call, address, str(port))
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as asked:
        yield asked


def serving(site: Lan, address: str, port: int) -> contextlib.AbstractContextManager[None]:
    """Listen on the other side."""
    return listening(site.outside.enter, address, port)


@contextlib.contextmanager
def listening(enter: Callable[..., list[str]], address: str, port: int) -> Iterator[None]:
    serve = (
        "import socket, sys; s = socket.create_server((sys.argv[1], int(sys.argv[2])));"
        " print('on', flush=True)\nwhile True: kept = s.accept()"
    )
    with subprocess.Popen(
        enter(sys.executable, "-c", serve, address, str(port)), stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        server.stdout.readline()
        try:
            yield
        finally:
            server.kill()
