"""`edge-agent attestations`: what this dock attested, and whether it is all there."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from edge_agent.adapters.attestation_post import read_answer
from edge_agent.adapters.attestations import AttestationFolder, attestations_folder
from edge_agent.config import EdgeConfig
from edge_agent.errors import AttestationsError
from protocol.attestation import Attestation
from protocol.attested import Attested
from protocol.chain import GENESIS
from protocol.digest import sha256_hex
from protocol.envelope import keyring, parse_statement, take_apart
from protocol.errors import ProtocolError
from protocol.keys import KeyId, VerifyingKey
from protocol.versions import Statement
from runtime.keys import load_certificate_key, load_signing_key

EXAMPLES: Final = """\
examples:
  edge-agent attestations                     all of them, the last one below, each checked
  edge-agent attestations --newest 7          as many of the last ones
It ends with 1 if one is missing, changed or not signed by a key of this dock, and says which.
docs/no-internet.md: how to check them without this program.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let *parser* read what it takes."""
    parser.add_argument("--newest", type=int, metavar="N", help="show the last N, check them all")


def show(config: EdgeConfig, options: argparse.Namespace) -> int:
    """Print them; return the exit status."""
    folder = attestations_folder(config)
    files = AttestationFolder(folder).files()
    if not files:
        print(f"{folder}: nothing is attested: a dock with [guard] in its configuration does")
        return 0
    shown_from = len(files) - (options.newest or len(files))
    # A key that was replaced signed what it signed.
    keys = AttestationFolder(folder).keys() | dict(
        keyring(load_signing_key(config.signing.key).public)
    )
    expected, faults = GENESIS.payload_sha256, 0
    for index, (number, path) in enumerate(files):
        try:
            attestation, digest = _checked(path, number, expected, keys)
        except (AttestationsError, ProtocolError) as error:
            print(f"✗ {number:>6} {path}: {error.code}: {error}", file=sys.stderr)
            faults += 1
            expected = ""
            continue
        expected = digest
        if index >= shown_from:
            print(_line(attestation, digest))
    missing = files[-1][0] - len(files)
    if missing:
        print(f"✗ {missing} numbers are missing before {files[-1][0]}", file=sys.stderr)
    print(_sent(read_answer(folder, _archive_keys(config)), files[-1][0]))
    return 1 if faults or missing else 0


def _archive_keys(config: EdgeConfig) -> Mapping[KeyId, VerifyingKey]:
    return keyring(load_certificate_key(config.archive.signing_certificate))


def _sent(answer: Attested | None, last: int) -> str:
    if answer is None:
        return "the archive has not answered for any of them yet"
    waiting = max(0, last - answer.sequence)
    more = f"; {waiting} wait to be sent" if waiting else ""
    at = f"{answer.answered_at:%Y-%m-%d %H:%M:%S} UTC"
    return f"the archive signed at {at} that it keeps them up to number {answer.sequence}{more}"


def _checked(
    path: Path, number: int, expected: str, keys: Mapping[KeyId, VerifyingKey]
) -> tuple[Attestation, str]:
    """Return an attestation and its digest; *expected* is what it has to name, "" for anything."""
    sealed = take_apart(path.read_bytes())
    sealed.verify(keys)
    attestation = parse_statement(sealed, Statement.ATTESTATION, Attestation)
    if attestation.sequence != number:
        raise AttestationsError(f"it is number {attestation.sequence}")
    if expected not in {"", attestation.previous_sha256}:
        raise AttestationsError("it does not follow on the one before")
    return attestation, sha256_hex(sealed.payload)


def _line(one: Attestation, digest: str) -> str:
    broken = f", {len(one.broken)} broken" if one.broken else ""
    return (
        f"✓ {one.sequence:>6} {one.made_at:%Y-%m-%d %H:%M:%S} UTC  {one.occasion.value:<8}"
        f" {one.isolation.value}{broken}  {digest[:16]}…"
    )
