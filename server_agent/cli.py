"""``server-agent``: run the archive, verify what it holds, prepare a site.

Without a command it runs: ``server-agent --config FILE`` is what the service does.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from protocol.errors import ProtocolError
from runtime import logs
from runtime.errors import RuntimeFault
from runtime.heap import keep_heaps_small
from runtime.tls import client_context, server_context
from server_agent.adapters.registry_file import read_registry
from server_agent.app import load_signer_key, run_forever
from server_agent.attestations_cli import add_attestations_command
from server_agent.broker.commands import add_broker_commands
from server_agent.command_cli import add_command_command
from server_agent.config import DEFAULT_PATH, ServerConfig, load_config
from server_agent.errors import ServerError
from server_agent.log_cli import add_log_command
from server_agent.pki.commands import add_pki_commands
from server_agent.set_up_cli import add_set_up_commands
from server_agent.verify_command import add_verify_command

GOOD: Final = 0
FAILED: Final = 1

_ABOUT: Final = """\
The archive of a Bayward site: admits what docks claim, takes the files, closes bags that anybody
can verify, and signs receipts. Without a command, it runs.
"""
_EPILOG: Final = """\
examples:
  server-agent --config /etc/bayward/server.toml
  server-agent check-config --config /etc/bayward/server.toml
  server-agent verify /var/lib/bayward/archive --ca /root/ca.pem
  server-agent log verify --config /etc/bayward/server.toml
  server-agent attestations --dock dock-01 --out /mnt/dock-01
  server-agent set-up --host 192.168.10.2 --network 192.168.10.0/24
  server-agent dock-key --dock dock-01 --out /mnt
  server-agent pki init --dir /var/lib/bayward/pki --host 192.168.10.2
  server-agent broker-config --pki /var/lib/bayward/pki --out /var/lib/bayward/broker

exit status:
  0  done; for `verify`, every bag is good
  1  something was found, or a step failed: one line on standard error, with its code
  2  the command line is wrong
  4  `verify` found nothing to verify, which is never success

SIGTERM ends the running archive in good order; SIGHUP lets it read registry.toml again.
"""
_CHECK_EPILOG: Final = """\
example:
  server-agent check-config --config /etc/bayward/server.toml && systemctl restart server-agent

exit status: 0 all is well, 1 something is not
"""
# What is wrong in a way that a person can put right; anything else is our bug.
_FORESEEN: Final = (ServerError, RuntimeFault, ProtocolError, OSError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program with *arguments*, the process's own by default; return its exit status."""
    parsed = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = parsed.run
    try:
        return run(parsed)
    except _FORESEEN as error:
        sys.stderr.write(f"server-agent: {_one_line(error)}\n")
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="server-agent",
        description=_ABOUT,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_config(parser, default=DEFAULT_PATH)
    parser.set_defaults(run=_run)
    commands = parser.add_subparsers(metavar="COMMAND")
    run = commands.add_parser(
        "run", help="run the archive, which is what happens without a command, too"
    )
    run.set_defaults(run=_run)
    check = commands.add_parser(
        "check-config",
        help="look at everything that the configuration names",
        epilog=_CHECK_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.set_defaults(run=_check)
    for command in (run, check):
        # Suppressed: its own default would take the place of a --config before the command.
        _add_config(command, default=argparse.SUPPRESS)
    add_verify_command(commands)
    add_pki_commands(commands)
    add_broker_commands(commands)
    add_set_up_commands(commands)
    add_command_command(commands)
    add_log_command(commands)
    add_attestations_command(commands)
    return parser


def _add_config(parser: argparse.ArgumentParser, *, default: object) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        default=default,
        metavar="FILE",
        help=f"the archive's configuration ({DEFAULT_PATH})",
    )


def _run(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config)
    logs.configure(json=config.log.json, level=config.log.level)
    keep_heaps_small()
    try:
        run_forever(config)
    except* _FORESEEN as group:
        raise _first(group) from group
    return GOOD


def _check(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config)
    status = GOOD
    for name, look in _looks(config):
        try:
            look()
        except _FORESEEN as error:
            status = FAILED
            sys.stdout.write(f"BAD  {name}: {_one_line(error)}\n")
        else:
            sys.stdout.write(f"ok   {name}\n")
    return status


def _looks(config: ServerConfig) -> Iterator[tuple[str, Callable[[], object]]]:
    tls = config.tls
    files = {"ca": tls.ca, "certificate": tls.certificate, "key": tls.key}
    yield "TLS identity towards docks", lambda: server_context(**files)
    yield "TLS identity towards the broker", lambda: client_context(**files)
    yield "signing key", lambda: load_signer_key(config.signing)
    yield "registry", lambda: read_registry(config.registry, ca=tls.ca)
    yield "archive's folder", lambda: _writable(config.archive.root)


def _writable(folder: Path) -> None:
    """The archive's folder is made when it is needed, if the one above it is there."""
    probe = (folder if folder.exists() else folder.parent) / ".bayward-check"
    probe.touch()
    probe.unlink()


def _one_line(error: BaseException) -> str:
    code = getattr(error, "code", None)
    text = " ".join(str(error).split())
    return f"{code}: {text}" if code else text


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
