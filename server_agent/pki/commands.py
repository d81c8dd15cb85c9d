"""``server-agent pki``: make the site's authority, issue to docks, look at what there is."""

import argparse
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes

from protocol.errors import IdentifierError, KeyFormatError
from protocol.identifiers import DockId, parse_dock
from protocol.keys import VerifyingKey
from server_agent.pki.authority import CA_DAYS, LEAF_DAYS, certificate_pem, host_names
from server_agent.pki.errors import PkiError
from server_agent.pki.folder import Kept, PkiFolder

_DEFAULT_FOLDER: Final = Path("/var/lib/bayward/pki")
_MAX_DAYS: Final = 36_525

_ABOUT: Final = """\
The site's own certificate authority. Private keys are written once, mode 0600, and never
overwritten; doing a command again completes what is missing and keeps the rest.
ca.key signs new docks into the site: keep it on a medium that is locked away.
"""
_INIT_EXAMPLE: Final = """\
example:
  server-agent pki init --dir /var/lib/bayward/pki --host 192.168.10.2 --host archive.station.lan
"""
_ISSUE_EXAMPLE: Final = """\
example:
  server-agent pki issue --dir /var/lib/bayward/pki --dock dock-01
Copy ca.pem and the folder dock-01 to the dock, then remove dock-01/*.key here.
"""
_SHOW_EXAMPLE: Final = """\
example:
  server-agent pki show --dir /var/lib/bayward/pki
"""


def add_pki_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``pki`` to a program's commands; each sets ``run``, which takes the arguments.

    ``run`` returns the exit status: 0, or 1 after it said on standard error what went wrong.
    """
    pki = subparsers.add_parser("pki", help="the site's certificate authority", description=_ABOUT)
    commands = pki.add_subparsers(metavar="COMMAND", required=True)
    init = _command(
        commands, "init", "make the authority and the archive's certificates", _INIT_EXAMPLE
    )
    init.add_argument(
        "--host",
        action="append",
        required=True,
        metavar="NAME_OR_IP",
        help="how docks reach the archive's machine; may be given several times",
    )
    init.add_argument(
        "--ca-days", type=_days, default=CA_DAYS, help="how long the authority lasts (%(default)s)"
    )
    init.set_defaults(run=_run_init)
    issue = _command(commands, "issue", "issue the certificates of a dock", _ISSUE_EXAMPLE)
    issue.add_argument(
        "--dock", type=_dock, required=True, metavar="NAME", help="the dock's name, such as dock-01"
    )
    issue.set_defaults(run=_run_issue)
    for parser in (init, issue):
        parser.add_argument(
            "--days", type=_days, default=LEAF_DAYS, help="how long certificates last (%(default)s)"
        )
    show = _command(commands, "show", "list every certificate in the folder", _SHOW_EXAMPLE)
    show.set_defaults(run=_run_show)


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    purpose: str,
    example: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=purpose,
        description=purpose[0].upper() + purpose[1:] + ".",
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--dir",
        type=Path,
        default=_DEFAULT_FOLDER,
        help="the authority's folder (%(default)s)",
    )
    return parser


def _run_init(arguments: argparse.Namespace) -> int:
    folder, now_utc = PkiFolder(arguments.dir), datetime.now(UTC)
    try:
        _report([folder.create_authority(now_utc, days=arguments.ca_days)])
        _report(folder.issue_site(arguments.host, now_utc, days=arguments.days))
    except PkiError as error:
        return _failed(error)
    return 0


def _run_issue(arguments: argparse.Namespace) -> int:
    folder = PkiFolder(arguments.dir)
    try:
        _report(folder.issue_dock(arguments.dock, datetime.now(UTC), days=arguments.days))
    except PkiError as error:
        return _failed(error)
    return 0


def _run_show(arguments: argparse.Namespace) -> int:
    try:
        kept = PkiFolder(arguments.dir).certificates()
    except PkiError as error:
        return _failed(error)
    if not kept:
        sys.stderr.write(f"no certificate in {arguments.dir}\n")
        return 1
    for one in kept:
        sys.stdout.write("\n".join(_description(one, arguments.dir)) + "\n\n")
    return 0


def _description(kept: Kept, folder: Path) -> list[str]:
    certificate = kept.certificate
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    lines = [
        str(kept.path.relative_to(folder)),
        f"  for          {certificate.subject.rfc4514_string()}",
        f"  by           {certificate.issuer.rfc4514_string()}",
        f"  valid        {begins:%Y-%m-%d} to {ends:%Y-%m-%d}",
        f"  SHA-256      {certificate.fingerprint(hashes.SHA256()).hex()}",
    ]
    if names := host_names(certificate):
        lines.append(f"  vouches for  {', '.join(names)}")
    try:
        key = VerifyingKey.from_certificate_pem(certificate_pem(certificate))
    except KeyFormatError:
        return lines
    return [*lines, f"  signing key  {key.key_id}"]


def _report(kept: Iterable[Kept]) -> None:
    for one in kept:
        sys.stdout.write(f"{'made' if one.is_new else 'kept'}  {one.path}\n")


def _failed(error: PkiError) -> int:
    sys.stderr.write(f"{error.code}: {error}\n")
    return 1


def _dock(untrusted: str) -> DockId:
    try:
        return parse_dock(untrusted)
    except IdentifierError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _days(untrusted: str) -> int:
    if not untrusted.isdecimal() or not 1 <= int(untrusted) <= _MAX_DAYS:
        raise argparse.ArgumentTypeError(f"{untrusted!r} is not 1 to {_MAX_DAYS} days")
    return int(untrusted)
