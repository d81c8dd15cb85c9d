"""The program as its users call it."""

import asyncio
import io
import sqlite3
from pathlib import Path

import pytest

from server_agent.access.roles import Role
from server_agent.access.store import open_access
from server_agent.access.users import parse_user_name
from server_agent.console.cli import main
from tests.simulators.certificates import Authority
from tests.simulators.console_data import FilledSite, console_toml

DONE, FAILED, USAGE, CONFIGURATION = 0, 1, 2, 3


@pytest.fixture
def config(site: FilledSite) -> Path:
    file = site.root / "console.toml"
    file.write_text(console_toml(site, mqtt_port=1883))
    return file


def call(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def add(config: Path, *more: str, name: str = "zhangwei", role: str = "auditor") -> int:
    return call("add-user", "--config", config, "--name", name, "--role", role, *more)


async def find(config: Path, name: str = "zhangwei") -> tuple[Role, str | None, str] | None:
    async with open_access(config.parent / "access.sqlite") as store:
        found = await store.find_user(parse_user_name(name))
    return found and (found[0].role, found[0].officer, found[1])


def test_a_generated_password_is_told_once(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The password stands on the last line, by itself, and nowhere on the disk."""
    assert add(config) == DONE

    password = capsys.readouterr().out.rstrip().rsplit(maxsplit=1)[-1]
    assert len(password) >= 20
    assert password.encode() not in (config.parent / "access.sqlite").read_bytes()


def test_a_password_from_stdin_is_not_told(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password that somebody else chose is not repeated."""
    monkeypatch.setattr("sys.stdin", io.StringIO("a secret of mine\n"))

    assert add(config, "--password-stdin") == DONE
    assert "secret" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "role", "more", "status", "code"),
    [
        ("zhangwei", "king", (), USAGE, "invalid choice"),
        ("", "auditor", (), FAILED, "E-ACC-103"),
        ("zhangwei", "officer", (), FAILED, "E-ACC-105"),
        ("zhangwei", "auditor", ("--officer", "012301"), FAILED, "E-ACC-105"),
        ("zhangwei", "officer", ("--officer", "../x"), FAILED, "E-PRO-110"),
    ],
)
def test_an_account_that_cannot_be(
    config: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    role: str,
    more: tuple[str, ...],
    status: int,
    code: str,
) -> None:
    """A wrong account is refused with its code, and nothing is made."""
    try:
        found = add(config, *more, name=name, role=role)
    except SystemExit as ended:
        found = int(ended.code or 0)

    assert found == status
    assert code in capsys.readouterr().err
    assert not (config.parent / "access.sqlite").exists()


def test_a_short_password_is_refused(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule for passwords holds for the administrator as well."""
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))

    assert add(config, "--password-stdin") == FAILED
    assert "E-ACC-104" in capsys.readouterr().err


def test_a_name_is_given_once(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second account of one name is refused, however it is typed."""
    assert add(config) == DONE
    assert add(config, name="ZhangWei") == FAILED
    assert "E-ACC-101" in capsys.readouterr().err


async def test_an_officers_account(config: Path) -> None:
    """An officer's account has the officer's number."""
    # In a thread: the program has an event loop of its own.

    status = await asyncio.to_thread(add, config, "--officer", "012301", role="officer")

    found = await find(config)
    assert status == DONE
    assert found is not None
    assert found[:2] == (Role.OFFICER, "012301")


def test_setting_a_password(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An account gets another password; nobody's account does not."""
    add(config)
    before = sqlite3.connect(config.parent / "access.sqlite")
    [kept] = before.execute("SELECT password FROM users").fetchone()

    assert call("set-password", "--config", config, "--name", "zhangwei") == DONE
    assert before.execute("SELECT password FROM users").fetchone() != (kept,)
    before.close()
    assert call("set-password", "--config", config, "--name", "nobody") == FAILED
    assert "E-ACC-102" in capsys.readouterr().err


def test_check_config_says_what_is_used(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A good configuration is said to be good, with what it names."""
    assert call("check-config", "--config", config) == DONE

    told = capsys.readouterr().out
    assert "configuration: ok" in told
    assert str(config.parent / "archive") in told


def test_the_option_may_stand_before_the_command(config: Path) -> None:
    """`server-console --config FILE check-config` is the same."""
    assert call("--config", config, "check-config") == DONE


@pytest.mark.parametrize(
    ("replaced", "by", "status", "told"),
    [
        ("[log]", "[lgo]", CONFIGURATION, "$.lgo"),
        ("127.0.0.1", "192.0.2.1", CONFIGURATION, "$.listen.host"),
        ('"archive"', '"nowhere"', FAILED, "archive.root"),
        ("port = 0", 'port = 0\ncertificate = "x.pem"\nkey = "x.key"', FAILED, "x.key"),
    ],
)
def test_check_config_finds_what_is_wrong(
    config: Path,
    capsys: pytest.CaptureFixture[str],
    replaced: str,
    by: str,
    status: int,
    told: str,
) -> None:
    """A wrong key, or a file that is not there, is named before anything starts."""
    config.write_text(config.read_text().replace(replaced, by, 1))

    assert call("check-config", "--config", config) == status
    assert told in capsys.readouterr().err


def test_an_exposed_key_is_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A private key that others may read is not used."""
    pair = Authority(config.parent / "pki").issue_tls("console")
    pair.key.chmod(0o644)
    keys = f'port = 0\ncertificate = "{pair.certificate}"\nkey = "{pair.key}"'
    config.write_text(config.read_text().replace("port = 0", keys, 1))

    assert call("check-config", "--config", config) == FAILED
    assert "E-RUN-111" in capsys.readouterr().err


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """--help shows how it is called, and what the exit status means."""
    with pytest.raises(SystemExit) as ended:
        call("--help")

    told = capsys.readouterr().out
    assert ended.value.code == DONE
    for shown in ("examples:", "add-user --name", "exit status:", "check-config"):
        assert shown in told
