"""``server-agent log``: look at the custody log, prove what stands in it, and check all of it.

Reads files only: it works beside a running archive, and on a copy.
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

from protocol.checkpoint import Checkpoint, open_checkpoint
from protocol.custody import LogEntry, ManifestAdmitted, ReceiptIssued, parse_entry
from protocol.errors import IdentifierError, ProtocolError
from protocol.identifiers import parse_manifest_id
from protocol.keys import VerifyingKey
from protocol.log_proofs import Inclusion
from protocol.merkle import check_inclusion, leaf_hash, prove_inclusion
from protocol.tiles import TILE_WIDTH
from runtime.keys import load_certificate_key
from server_agent.adapters.log_files import WATCHED, LogFiles
from server_agent.archive.layout import CUSTODY
from server_agent.config import DEFAULT_PATH, load_config
from server_agent.errors import LogChangedError
from server_agent.ledger.log_check import LogFault, LogReader, check_beginning, check_log

_GOOD: Final = 0
_FAILED: Final = 1
_NOTHING: Final = 4
_ABOUT: Final = """\
The custody log: every admission, every bag and every receipt, in order, under a signed checkpoint.
docs/custody-log.md says what its bytes are.
"""
_EPILOG: Final = """\
examples:
  server-agent log checkpoint >today.checkpoint          keep it elsewhere: it cannot be taken back
  server-agent log verify --earlier last-year.checkpoint
  server-agent log prove --receipt 01a207be-9420-7315-926a-a37e007be06d >receipt.tlog-proof
  server-agent log prove --manifest 01a207be-9420-7315-926a-a37e007be06d >admission.tlog-proof
  server-agent log entries --from 1000
  server-agent log verify --log /media/disc/custody --certificate /media/disc/archive-signing.pem

exit status:
  0  done; for `verify`, everything is as it was signed
  1  something is wrong, or what was asked for is not in the log
  2  the command line is wrong
  4  there is no log, which is never success
"""


def add_log_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``log``; it sets ``run``, which returns the exit status."""
    parser = subparsers.add_parser(
        "log",
        help="the custody log: its checkpoint, proofs, entries, and whether all of it is right",
        description=_ABOUT,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=["checkpoint", "prove", "verify", "entries"])
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, help="default: %(default)s")
    parser.add_argument("--log", type=Path, metavar="FOLDER", help="a copy of custody/")
    parser.add_argument(
        "--certificate", type=Path, metavar="FILE", help="of the archive's signing key"
    )
    parser.add_argument(
        "--receipt", type=_identifier, metavar="ID", help="prove: this receipt, by its id"
    )
    parser.add_argument(
        "--manifest", type=_identifier, metavar="ID", help="prove: this manifest's admission"
    )
    parser.add_argument(
        "--earlier", type=Path, metavar="FILE", help="verify: a checkpoint that was kept elsewhere"
    )
    parser.add_argument(
        "--from", type=int, default=0, dest="first", metavar="N", help="entries: the first shown"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.action == "prove" and (arguments.receipt is None) == (arguments.manifest is None):
        print("server-agent log prove: either --receipt or --manifest", file=sys.stderr)
        return 2
    files, key = _named(arguments)
    note = files.read_checkpoint()
    if note is None:
        print(f"server-agent log: there is no log in {files.folder}", file=sys.stderr)
        return _NOTHING
    checkpoint = open_checkpoint(note, key)
    match arguments.action:
        case "checkpoint":
            sys.stdout.write(note.decode())
            return _GOOD
        case "prove":
            return _prove(files, note, checkpoint, arguments.receipt, arguments.manifest)
        case "verify":
            return _verify(files, checkpoint, key, arguments.earlier)
    return _show(files, checkpoint, arguments.first)


def _named(arguments: argparse.Namespace) -> tuple[LogFiles, VerifyingKey]:
    """Return the log that is meant and the key that signed it; what is not named is configured."""
    folder, certificate = arguments.log, arguments.certificate
    if folder is None or certificate is None:
        config = load_config(arguments.config)
        folder = folder or config.archive.root / CUSTODY
        certificate = certificate or config.signing.certificate
    return LogFiles(folder), load_certificate_key(certificate)


def _verify(
    files: LogFiles, checkpoint: Checkpoint, key: VerifyingKey, earlier: Path | None
) -> int:
    faults: Iterator[LogFault] = check_log(checkpoint, files.read)
    if earlier is not None:
        kept = open_checkpoint(earlier.read_bytes(), key, origin=checkpoint.origin)
        faults = chain(faults, check_beginning(kept, LogReader(checkpoint.size, files.read)))
    faults = chain(faults, _check_watched(files, checkpoint, key))
    found = 0
    for found, fault in enumerate(faults, start=1):  # noqa: B007 - the last number is the count
        print(f"BAD  {fault.where}: {fault.what}")
    print(
        f"{checkpoint.size} entries of {checkpoint.origin}: "
        + (f"{found} things are wrong" if found else "all as they were signed")
    )
    return _FAILED if found else _GOOD


def _check_watched(
    files: LogFiles, checkpoint: Checkpoint, key: VerifyingKey
) -> Iterator[LogFault]:
    """Yield what is wrong if the log does not begin with what docks saw of it."""
    reader = LogReader(checkpoint.size, files.read)
    for dock, note in files.watched().items():
        where = f"{WATCHED}/{dock}"
        try:
            seen = open_checkpoint(note, key, origin=checkpoint.origin)
        except ProtocolError as error:
            yield LogFault(where=where, what=str(error))
        else:
            for fault in check_beginning(seen, reader):
                yield LogFault(where=where, what=fault.what)


def _prove(
    files: LogFiles, note: bytes, checkpoint: Checkpoint, receipt: str | None, manifest: str | None
) -> int:
    reader = LogReader(checkpoint.size, files.read)
    for index, entry in _entries(reader, containing=(receipt or manifest or "").encode()):
        if _is_wanted(_parsed(entry), receipt, manifest):
            try:
                hashes = prove_inclusion(index, checkpoint.size, reader.nodes)
                check_inclusion(index, checkpoint.size, leaf_hash(entry), hashes, checkpoint.root)
            except ProtocolError as error:
                raise LogChangedError(str(error)) from error
            proof = Inclusion(entry=entry, index=index, hashes=hashes, note=note)
            sys.stdout.write(proof.encode())
            return _GOOD
    print("server-agent log prove: not in the log", file=sys.stderr)
    return _FAILED


def _is_wanted(entry: LogEntry | None, receipt: str | None, manifest: str | None) -> bool:
    if receipt is not None:
        return isinstance(entry, ReceiptIssued) and entry.receipt_id == receipt
    return isinstance(entry, ManifestAdmitted) and entry.manifest_id == manifest


def _show(files: LogFiles, checkpoint: Checkpoint, first: int) -> int:
    for index, entry in _entries(LogReader(checkpoint.size, files.read), first=first):
        text = entry.decode(errors="backslashreplace")
        print(index, text if text.isprintable() else repr(text))
    return _GOOD


def _entries(
    reader: LogReader, *, first: int = 0, containing: bytes = b""
) -> Iterator[tuple[int, bytes]]:
    """Yield entries with their numbers.

    Raises:
        LogChangedError: A bundle is missing or cut.
    """
    for bundle in range(max(first, 0) // TILE_WIDTH, -(-reader.size // TILE_WIDTH)):
        try:
            entries = reader.bundle(bundle)
        except ProtocolError as error:
            raise LogChangedError(str(error)) from error
        for index, entry in enumerate(entries, start=bundle * TILE_WIDTH):
            if index >= first and containing in entry:
                yield index, entry


def _parsed(entry: bytes) -> LogEntry | None:
    """Return what an entry says; None if a later release wrote it."""
    try:
        return parse_entry(entry)
    except ProtocolError:
        return None


def _identifier(untrusted: str) -> str:
    try:
        return parse_manifest_id(untrusted)  # all ids have one form
    except IdentifierError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
