"""``server-agent attestations``: write out what a dock attested, and check the chain of it."""

import argparse
import asyncio
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from protocol.attestation import Attestation
from protocol.chain import GENESIS, ChainHead
from protocol.digest import sha256_hex
from protocol.envelope import keyring, parse_statement, take_apart
from protocol.errors import IdentifierError, ProtocolError
from protocol.identifiers import DockId, parse_dock
from protocol.keys import VerifyingKey
from protocol.versions import Statement
from runtime.durable import make_directories, write_file
from server_agent.adapters.attestation_records import load_certificates, load_kept
from server_agent.config import DEFAULT_PATH, load_config
from server_agent.errors import CatalogueUnreadableError

_GOOD: Final = 0
_FAILED: Final = 1
_NOTHING: Final = 4
_TOGETHER: Final = 64
_ABOUT: Final = """\
Write out what a dock attested about the no-internet rule, each as the dock signed it, with the
certificates of its keys and of the site's authority; and check that each is signed by such a key
and follows on the one before. Reads only: it works beside a running archive.
"""
_EPILOG: Final = """\
example:
  server-agent attestations --dock dock-01 --out /media/disc/dock-01

A file that is there already with the same bytes is left as it is; one with others is an error.
docs/verify.md: how an expert checks them without this program.

exit status:
  0  done, and all of them are as they should be
  1  one is not, or a step failed: one line that says so
  2  the command line is wrong
  4  there are none of that dock, which is never success
"""


def add_attestations_command(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add ``attestations``; it sets ``run``, which returns the exit status."""
    parser = subparsers.add_parser(
        "attestations",
        help="write out what a dock attested about the no-internet rule",
        description=_ABOUT,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dock", type=_dock, required=True, metavar="NAME")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, help="default: %(default)s")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config)
    url = _read_only(make_url(config.catalogue.url))
    folder: Path = arguments.out
    try:
        return asyncio.run(_write_out(url, config.tls.ca.read_bytes(), arguments.dock, folder))
    except SQLAlchemyError as error:
        raise CatalogueUnreadableError(str(error)) from error


async def _write_out(url: URL, ca: bytes, dock: DockId, folder: Path) -> int:
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            certificates = await load_certificates(connection, dock)
            chain = _Chain(dock=dock, certificates=certificates)
            async with aclosing(_kept(connection, dock)) as kept:
                async for number, envelope in kept:
                    if not chain.count:
                        make_directories(folder / "certificates")
                    chain.check(number, envelope)
                    _put(folder / f"{number:08d}.dsse.json", envelope)
    finally:
        await engine.dispose()
    if not chain.count:
        print(f"server-agent attestations: none of {dock}", file=sys.stderr)
        return _NOTHING
    for key_id, pem in certificates.items():
        _put(folder / "certificates" / f"{key_id.partition(':')[2]}.pem", pem)
    _put(folder / "ca.pem", ca)
    verdict = f"{chain.faults} are not as they should be" if chain.faults else "each follows"
    print(f"{dock}: {chain.count} attestations up to number {chain.head.sequence}: {verdict}")
    return _FAILED if chain.faults else _GOOD


async def _kept(
    connection: AsyncConnection, dock: DockId
) -> AsyncGenerator[tuple[int, bytes], None]:
    last = 0
    while rows := await load_kept(connection, dock, after=last, limit=_TOGETHER):
        for number, envelope in rows:
            last = number
            yield number, envelope


@dataclass(slots=True, kw_only=True)
class _Chain:
    """What was seen so far, and how much of it was not as it should be."""

    dock: DockId
    certificates: Mapping[str, bytes]
    head: ChainHead = GENESIS
    count: int = 0
    faults: int = 0

    def check(self, number: int, envelope: bytes) -> None:
        """Say what is wrong with the next one, if anything."""
        self.count += 1
        try:
            fault, digest = self._look(number, envelope)
        except ProtocolError as error:
            fault, digest = f"{error.code}: {error}", ""
        if fault is not None:
            self.faults += 1
            print(f"BAD  {number}: {fault}")
        self.head = ChainHead(sequence=number, payload_sha256=digest)

    def _look(self, number: int, envelope: bytes) -> tuple[str | None, str]:
        sealed = take_apart(envelope)
        pems = self.certificates.values()
        sealed.verify(keyring(*map(VerifyingKey.from_certificate_pem, pems)))
        one = parse_statement(sealed, Statement.ATTESTATION, Attestation)
        digest = sha256_hex(sealed.payload)
        if (one.dock, one.sequence) != (self.dock, number):
            return f"it is number {one.sequence} of {one.dock}", digest
        if number != self.head.sequence + 1:
            return f"those after {self.head.sequence} are missing", digest
        if one.previous_sha256 != self.head.payload_sha256:
            return "it does not follow on the one before", digest
        return None, digest


def _put(path: Path, content: bytes) -> None:
    """Write a file durably, unless it is there with the same bytes.

    Raises:
        FileExistsError: It is there with others.
        OSError: The disk failed.
    """
    if path.exists() and path.read_bytes() == content:
        return
    write_file(path, content, mode=0o644)


def _read_only(url: URL) -> URL:
    """Return *url* such that nothing is written.

    Raises:
        CatalogueUnreadableError: There is none, and none is made.
    """
    if url.get_backend_name() != "sqlite":
        return url
    path = url.database or ""
    if not Path(path).is_file():
        raise CatalogueUnreadableError(f"{path} is not there")
    return url.set(database=f"file:{quote(path)}", query={"mode": "ro", "uri": "true"})


def _dock(untrusted: str) -> DockId:
    try:
        return parse_dock(untrusted)
    except IdentifierError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
