"""What the generated configuration says, and what it refuses to say."""

import argparse
import dataclasses
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from protocol.identifiers import HIGHEST_BAY
from server_agent.broker.commands import add_broker_commands
from server_agent.broker.configuration import BrokerSettings, acl, mosquitto_conf
from server_agent.pki.folder import PkiFolder
from tests.architecture.source_tree import ROOT
from tests.simulators.bag_site import ISSUED_AT

SETTINGS = BrokerSettings(
    host="192.0.2.10",
    port=8883,
    ca=PurePosixPath("/pki/ca.pem"),
    certificate=PurePosixPath("/pki/broker/tls.pem"),
    key=PurePosixPath("/pki/broker/tls.key"),
    acl=PurePosixPath("/broker/acl"),
    data=PurePosixPath("/broker/with space/data"),
)


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="server-agent")
    add_broker_commands(parser.add_subparsers(required=True))
    parsed = parser.parse_args(["broker-config", *arguments])
    status: int = parsed.run(parsed)
    return status


def changed(**changes: Any) -> BrokerSettings:
    return dataclasses.replace(SETTINGS, **changes)


@pytest.mark.parametrize(
    "line",
    [
        "listener 8883 192.0.2.10",
        "require_certificate true",
        "use_identity_as_username true",
        "allow_anonymous false",
        "tls_version tlsv1.2",
        "acl_file /broker/acl",
        "persistence_location /broker/with space/data/",
    ],
)
def test_what_keeps_strangers_out(line: str) -> None:
    """Each line that the site's safety rests on is there, once."""
    assert mosquitto_conf(SETTINGS).splitlines().count(line) == 1


def test_nothing_else_listens() -> None:
    """There is one listener."""
    lines = mosquitto_conf(SETTINGS).splitlines()

    assert len([line for line in lines if line.startswith(("listener", "port"))]) == 1


@pytest.mark.parametrize(("run_as", "lines"), [(None, []), ("root", ["user root"])])
def test_user_that_it_becomes(run_as: str | None, lines: list[str]) -> None:
    """Without a user named, mosquitto becomes Debian's; with one, that one."""
    text = mosquitto_conf(changed(run_as=run_as))

    assert [line for line in text.splitlines() if line.startswith("user ")] == lines


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "0.0.0.0"},  # noqa: S104 -- what is refused
        {"host": "::"},
        {"host": ""},
        {"host": "x\nallow_anonymous true"},
        {"port": 0},
        {"port": 65_536},
        {"ca": PurePosixPath("relative/ca.pem")},
        {"key": PurePosixPath("/x\nallow_anonymous true")},
        {"run_as": "root\n"},
    ],
)
def test_values_that_the_file_cannot_say(changes: dict[str, object]) -> None:
    """A value that would change the file's meaning, or open every address, is refused."""
    with pytest.raises(ValueError):  # noqa: PT011 -- each has its own sentence
        mosquitto_conf(changed(**changes))


def test_acl_names_no_dock() -> None:
    """Docks come and go without the broker's files: its rules are patterns."""
    lines = acl().splitlines()

    assert [line for line in lines if line.startswith("user")] == ["user archive", "user console"]
    assert "pattern write bayward/v1/docks/%u/manifests" in lines
    assert not [line for line in lines if "readwrite" in line]


def test_acl_lets_a_dock_write_the_bays_that_there_can_be() -> None:
    """A dock cannot leave retained messages on any number of topics: bays have 99 numbers."""
    bays = [line for line in acl().splitlines() if "/bays/" in line]

    assert bays[0] == "pattern write bayward/v1/docks/%u/bays/1"
    assert bays[-1] == f"pattern write bayward/v1/docks/%u/bays/{HIGHEST_BAY}"
    assert len(bays) == HIGHEST_BAY


def test_memory_is_bounded() -> None:
    """The broker stops taking memory before the system stops the broker."""
    unit = (ROOT / "systemd/mosquitto.service.d/bayward.conf").read_text()
    [limit] = [
        line.split()[1] for line in mosquitto_conf(SETTINGS).splitlines() if "memory_limit" in line
    ]

    assert "\nMemoryMax=2G\n" in unit
    assert int(limit) < 2 << 30


def test_command_writes_both_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command writes absolute paths, and may be run again."""
    pki = PkiFolder(tmp_path / "pki")
    pki.create_authority(ISSUED_AT)
    pki.issue_site(["127.0.0.1"], ISSUED_AT)
    arguments = ("--pki", str(pki.directory), "--out", str(tmp_path / "broker"))

    assert run(*arguments) == 0
    assert run(*arguments, "--port", "18883", "--run-as", "root") == 0

    text = (tmp_path / "broker/mosquitto.conf").read_text()
    assert "listener 18883 127.0.0.1\n" in text
    assert f"acl_file {tmp_path}/broker/acl\n" in text
    assert (tmp_path / "broker/acl").read_text() == acl()
    assert (tmp_path / "broker/data").is_dir()
    assert "mosquitto.conf" in capsys.readouterr().out


def test_command_without_certificates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the broker's certificate nothing is written."""
    assert run("--pki", str(tmp_path), "--out", str(tmp_path / "broker")) == 1

    assert "pki init" in capsys.readouterr().err
    assert not (tmp_path / "broker").exists()
