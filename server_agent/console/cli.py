"""The program ``server-console``."""

import argparse
import asyncio
import sqlite3
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from protocol.errors import IdentifierError
from protocol.identifiers import parse_officer
from runtime import logs
from runtime.errors import RuntimeFault, SettingsError
from server_agent.access.passwords import check_rule, generate_password, hash_password
from server_agent.access.roles import Role
from server_agent.access.store import open_access
from server_agent.access.users import User, UserName, parse_user_name
from server_agent.console.config import (
    EXAMPLE,
    ConsoleSettings,
    catalogue_url,
    load_settings,
)
from server_agent.console.serving import link_settings, run
from server_agent.console.web_server import check_tls
from server_agent.errors import ServerError

_DONE: Final = 0
_FAILED: Final = 1
_WRONG_CONFIGURATION: Final = 3
_DEFAULT_CONFIG: Final = Path("/etc/bayward/console.toml")

_DESCRIPTION: Final = """\
The web console of the archive: live bays, search, playback, viewing log.
It reads the catalogue and the archive and writes neither."""
_EXAMPLES: Final = f"""\
examples:
  server-console --config /etc/bayward/console.toml
  server-console check-config --config console.toml
  server-console add-user --name zhangwei --role device_administrator --config console.toml
  server-console add-user --name 012345 --role officer --officer 012345 --password-stdin <secret
  server-console set-password --name zhangwei

A wall screen logs in with an account of the role system_administrator: it sees the
bays and no footage, and its page stays open until the session's absolute end.

console.toml; relative paths are relative to it:
{EXAMPLE}
exit status: 0 done; 1 a step failed; 2 wrong usage; 3 wrong configuration"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks, and return the exit status."""
    asked = _parser().parse_args(arguments)
    try:
        settings = load_settings(asked.config)
        step: Callable[[argparse.Namespace, ConsoleSettings], int] = asked.step
        return step(asked, settings)
    except SettingsError as error:
        return _complain(f"{error.code} {error}", _WRONG_CONFIGURATION)
    except (RuntimeFault, ServerError, IdentifierError) as error:
        return _complain(f"{error.code} {error}", _FAILED)
    except (OSError, sqlite3.Error) as error:
        return _complain(str(error), _FAILED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="server-console",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(step=_run)
    _add_config(parser, default=_DEFAULT_CONFIG)
    commands = parser.add_subparsers(metavar="COMMAND", title="commands; without one: run")
    for name, step, text in (
        ("run", _run, "serve until SIGTERM or SIGINT"),
        ("check-config", _check_config, "read the configuration and what it names, and say so"),
        ("add-user", _add_user, "make an account; a generated password is printed once"),
        ("set-password", _set_password, "give an account another password and end its sessions"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(step=step)
        _add_config(command, default=argparse.SUPPRESS)
        if step in {_add_user, _set_password}:
            command.add_argument("--name", required=True, help="what the person logs in as")
            command.add_argument(
                "--password-stdin", action="store_true", help="read the password's line from stdin"
            )
        if step is _add_user:
            roles = [role.value for role in Role]
            command.add_argument("--role", required=True, choices=roles, help="what it may see")
            command.add_argument("--officer", help="the officer's number; for the role officer")
    return parser


def _add_config(parser: argparse.ArgumentParser, *, default: object) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        default=default,
        metavar="FILE",
        help=f"the configuration (default: {_DEFAULT_CONFIG})",
    )


def _run(asked: argparse.Namespace, settings: ConsoleSettings) -> int:
    logs.configure(json=settings.log.json, level=settings.log.level)
    asyncio.run(run(settings, base=asked.config.absolute().parent))
    return _DONE


def _check_config(asked: argparse.Namespace, settings: ConsoleSettings) -> int:
    url = catalogue_url(settings, base=asked.config.absolute().parent)
    link_settings(settings.mqtt)
    check_tls(settings.listen)
    if not settings.archive.root.is_dir():
        raise NotADirectoryError(f"{settings.archive.root}: no such folder; it is archive.root")
    scheme = "https" if settings.listen.tls else "http"
    print(f"listens    {scheme}://{settings.listen.host}:{settings.listen.port}")
    print(f"catalogue  {url.render_as_string(hide_password=True)}")
    print(f"archive    {settings.archive.root}")
    print(f"access     {settings.access.database}")
    tls = "mutual TLS" if settings.mqtt.tls else "no TLS"
    print(f"broker     {settings.mqtt.host}:{settings.mqtt.port}, {tls}")
    print("configuration: ok")
    return _DONE


def _add_user(asked: argparse.Namespace, settings: ConsoleSettings) -> int:
    user = User(
        name=parse_user_name(asked.name),
        role=Role(asked.role),
        officer=None if asked.officer is None else parse_officer(asked.officer),
    )
    password = _password(asked)

    async def add() -> None:
        hashed = hash_password(password)
        async with open_access(settings.access.database) as store:
            await store.add_user(user, password_hash=hashed, now_utc=datetime.now(UTC))

    asyncio.run(add())
    _tell(user.name, password, asked)
    return _DONE


def _set_password(asked: argparse.Namespace, settings: ConsoleSettings) -> int:
    name = parse_user_name(asked.name)
    password = _password(asked)

    async def change() -> None:
        hashed = hash_password(password)
        async with open_access(settings.access.database) as store:
            await store.set_password(name, password_hash=hashed)

    asyncio.run(change())
    _tell(name, password, asked)
    return _DONE


def _password(asked: argparse.Namespace) -> str:
    if not asked.password_stdin:
        return generate_password()
    password = sys.stdin.readline().rstrip("\r\n")
    check_rule(password)
    return password


def _tell(name: UserName, password: str, asked: argparse.Namespace) -> None:
    if asked.password_stdin:
        print(f"{name}: done")
    else:
        print(f"user      {name}")
        print(f"password  {password}")


def _complain(text: str, status: int) -> int:
    print(f"server-console: {text}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
