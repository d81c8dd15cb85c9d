"""``server-agent command``: have a dock do something, and show what it answers."""

import argparse
import asyncio
import getpass
import sys
from pathlib import Path
from typing import Final

from protocol.commands import MAX_SECONDS, CommandOutcome, CommandVerb
from protocol.errors import IdentifierError
from protocol.identifiers import HIGHEST_BAY, BayNumber, DockId, parse_dock
from server_agent.adapters.command_socket import Request, ask_server
from server_agent.config import DEFAULT_PATH, load_config

_FAILED: Final = 1
_ABOUT: Final = """\
Have a dock do something: signed by the archive, done at most once, and answered. The running
server-agent sends it; to be asked as root or as its user.
"""
_EXAMPLES: Final = """\
examples:
  server-agent command --dock dock-01 identify --bay 3        its light shows which one it is
  server-agent command --dock dock-01 rescan                  tries again what could not be read
  server-agent command --dock dock-01 doctor
  server-agent command --dock dock-01 collect-logs >dock-01.log
  server-agent command --dock dock-01 restart

exit status: 0 done; 1 refused, failed or not answered, with a line that says why; 2 wrong usage
"""


def add_command_command(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add ``command``; it sets ``run``, which returns the exit status."""
    parser = subparsers.add_parser(
        "command",
        help="have a dock do something",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", choices=[verb.value for verb in CommandVerb])
    parser.add_argument("--dock", type=_dock, required=True, metavar="NAME")
    parser.add_argument("--bay", type=int, choices=range(1, HIGHEST_BAY + 1), metavar="N")
    parser.add_argument(
        "--seconds", type=int, choices=range(1, MAX_SECONDS + 1), metavar="N", help="of identify"
    )
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, help="default: %(default)s")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config)
    request = Request(
        dock=arguments.dock,
        verb=CommandVerb(arguments.verb),
        asked_by=getpass.getuser(),
        bay=None if arguments.bay is None else BayNumber(arguments.bay),
        seconds=arguments.seconds,
    )
    reply = asyncio.run(ask_server(config.commands.socket, request))
    if reply.answer is None:
        return _complain(reply.code, reply.text)
    if reply.answer.content:
        print(reply.answer.content)
    if reply.answer.outcome is CommandOutcome.DONE:
        print(f"{arguments.dock}: done", file=sys.stderr)
        return 0
    return _complain(reply.answer.code, f"{reply.answer.outcome.value}: {reply.answer.text}")


def _complain(code: str | None, text: str) -> int:
    print(f"server-agent: {code}: {text}", file=sys.stderr)
    return _FAILED


def _dock(untrusted: str) -> DockId:
    try:
        return parse_dock(untrusted)
    except IdentifierError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
