"""The dock's command line."""

import argparse
import asyncio
import contextlib
import logging
import os
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edge_agent import attest_cli, custody_cli, doctor_cli, map_cli, provision_cli
from edge_agent.adapters.control_socket import Command, ask
from edge_agent.adapters.presences import check_drivers
from edge_agent.adapters.status_text import needs_attention, printable, render_status
from edge_agent.adapters.vitals import AGENT
from edge_agent.app import run_agent
from edge_agent.config import DEFAULT_PATH, Check, EdgeConfig, check_config, load_config
from edge_agent.errors import AgentNotRunningError, ConfigUnreadableError, EdgeError
from protocol import strict_json
from protocol.errors import ProtocolError
from runtime.errors import RuntimeFault
from runtime.heap import keep_heaps_small
from runtime.logs import configure

OK: Final = 0
PROBLEM: Final = 1
USAGE: Final = 2
NOT_RUNNING: Final = 3

_EXIT_CODES: Final = """\
exit status:
  0  all is well
  1  the configuration is wrong, the agent failed, or something needs a person
  2  the command line is wrong
  3  the agent is not running
"""
_EXAMPLES: Final = {
    "map-bays": map_cli.EXAMPLES,
    "provision": provision_cli.EXAMPLES,
    "doctor": doctor_cli.EXAMPLES,
    "attestations": attest_cli.EXAMPLES,
    "custody": custody_cli.EXAMPLES,
    "run": """\
examples:
  edge-agent run                              with /etc/bayward/edge.toml, as the systemd unit does
  edge-agent run --config edge.toml           until Ctrl-C or SIGTERM
""",
    "status": """\
examples:
  edge-agent status                           a table of all bays
  edge-agent status --watch                   again whenever something changes
  edge-agent status --json | jq '.bays[].state'
""",
    "check-config": """\
examples:
  edge-agent check-config                     before the first start, and after each change
  edge-agent check-config --config edge.toml && systemctl restart edge-agent
""",
}
# What to do, by the letters of a code; docs/errors.md says more about each.
_REMEDIES: Final = {
    "E-RUN-101": "correct this key; `edge-agent check-config` looks at all of them",
    "E-RUN-111": "chmod 0600 the file",
    "E-RUN-112": "issue it again with `server-agent pki`",
    "E-CFG-601": "name the file with --config",
    "E-CFG-604": "bring the right journal or staging folder back, or move staging/files away",
    "E-CTL-502": "start it with `edge-agent run` or `systemctl start edge-agent`",
    "E-CTL-503": "stop the other agent, or give this one its own configuration",
    "E-CTL-505": "ask as root or as a member of the agent's group",
    "E-CTL-506": "end a `status --watch` that nobody looks at",
    "E-JRN-401": "install the release that wrote it, or a newer one",
    "E-ING-204": "correct the named profile",
}
_LOOK_UP: Final = "look the code up in docs/errors.md"
_CHECK_FAILED: Final = "E-CFG-602"
_DISK_FAILED: Final = "E-CFG-603"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _do(options)
    except KeyboardInterrupt:
        return OK
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python must not complain about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except AgentNotRunningError as error:
        _complain(error.code, str(error))
        return NOT_RUNNING
    except (EdgeError, ProtocolError, RuntimeFault) as error:
        return _complain(error.code, str(error))
    except (OSError, sqlite3.Error) as error:
        return _complain(_DISK_FAILED, f"{type(error).__name__}: {error}", "look at this disk")


def _do(options: argparse.Namespace) -> int:
    # Before there is a configuration.
    if options.command == "map-bays":
        return map_cli.map_bays(options)
    if options.command == "provision":
        return provision_cli.provision_from(options)
    return _COMMANDS[options.command](_load(options.config), options)


def _load(path: Path) -> EdgeConfig:
    try:
        return load_config(path)
    except OSError as error:
        raise ConfigUnreadableError(f"{path}: {error.strerror}") from None


def _run(config: EdgeConfig, _options: argparse.Namespace) -> int:
    configure(json=config.log.json, level=config.log.level)
    # At debug it tells every statement with its values, envelopes included.
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)
    wrong = [one for one in _checks(config) if one.problem is not None and not one.passing]
    for check in wrong:
        _complain(_CHECK_FAILED, f"{check.name}: {check.problem}", check.remedy)
    if wrong:
        return PROBLEM
    keep_heaps_small()
    run_agent(config)
    return OK


def _status(config: EdgeConfig, options: argparse.Namespace) -> int:
    return asyncio.run(_tell_status(config.control.socket, options))


async def _tell_status(socket: Path, options: argparse.Namespace) -> int:
    attention = False
    command = Command.WATCH if options.watch else Command.STATUS
    async with contextlib.aclosing(ask(socket, command)) as answers:
        async for snapshot in answers:
            attention = needs_attention(snapshot)
            if options.json:
                print(strict_json.encode(snapshot).decode(), flush=True)
                continue
            if options.watch and sys.stdout.isatty():
                print("\x1b[H\x1b[J", end="")
            print(render_status(snapshot), flush=True)
    return PROBLEM if attention else OK


def _checks(config: EdgeConfig) -> tuple[Check, ...]:
    return *check_config(config), *check_drivers(config.bays)


def _check_config(config: EdgeConfig, _options: argparse.Namespace) -> int:
    checks = _checks(config)
    for check in checks:
        print(_check_line(check))
    return PROBLEM if any(check.problem is not None for check in checks) else OK


def _check_line(check: Check) -> str:
    if check.problem is None:
        return f"✓ {check.name}"
    return f"✗ {check.name}: {printable(check.problem)}; {check.remedy}"


_ARGUMENTS: Final = {
    "map-bays": map_cli.add_arguments,
    "provision": provision_cli.add_arguments,
    "doctor": doctor_cli.add_arguments,
    "attestations": attest_cli.add_arguments,
    "custody": custody_cli.add_arguments,
}
_COMMANDS: Final = {
    "run": _run,
    "status": _status,
    "check-config": _check_config,
    "doctor": doctor_cli.examine,
    "attestations": attest_cli.show,
    "custody": custody_cli.show,
}


def _complain(code: str, what: str, remedy: str | None = None) -> int:
    line = f"{code}: {printable(what)}; {remedy or _REMEDIES.get(code, _LOOK_UP)}"
    print(line, file=sys.stderr)
    return PROBLEM


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-agent",
        description="Takes the footage off docked recorders and hands it to the archive.",
        epilog=f"Without a command: run.\n\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=AGENT)
    _add_config(parser, default=DEFAULT_PATH)
    parser.set_defaults(command="run")
    commands = parser.add_subparsers(metavar="command")
    for name, told in (
        ("run", "take footage until stopped"),
        ("status", "show what the running agent is doing"),
        ("check-config", "look at the configuration and at this machine, and say what is wrong"),
        ("doctor", "look at everything that a technician would, and say what to do"),
        ("attestations", "show what this dock attested about the no-internet rule, and check it"),
        ("custody", "show what this dock saw of the archive's custody log"),
        ("map-bays", "find out which USB port is which bay, by plugging something into each"),
        ("provision", "take in the USB key that makes this machine a dock"),
    ):
        command = commands.add_parser(
            name,
            help=told,
            description=f"{told[0].upper()}{told[1:]}.",
            epilog=f"{_EXAMPLES[name]}\n{_EXIT_CODES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _add_config(command, default=argparse.SUPPRESS)
        command.set_defaults(command=name)
        if name == "status":
            command.add_argument("--json", action="store_true", help="one JSON object a line")
            command.add_argument("--watch", action="store_true", help="go on until Ctrl-C")
        if name in _ARGUMENTS:
            _ARGUMENTS[name](command)
    return parser


def _add_config(parser: argparse.ArgumentParser, *, default: Path | str) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=default,
        help=f"the configuration, {DEFAULT_PATH} if not named",
    )
