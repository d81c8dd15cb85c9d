"""The command of the vectors is what every dock must accept from that archive."""

import json
from pathlib import Path

from protocol.commands import Command
from protocol.envelope import keyring, open_statement
from protocol.keys import VerifyingKey
from protocol.versions import Statement
from scripts.samples import command

GOOD = Path(__file__).resolve().parents[1] / "vectors/good"


def test_the_command_of_the_vectors() -> None:
    """With the archive's key, and nobody else's."""
    keys = json.loads((GOOD / "keys.json").read_text(encoding="utf-8"))
    archive = VerifyingKey.from_spki_der(bytes.fromhex(keys["archive"]))

    envelope = (GOOD / "command.dsse.json").read_bytes()

    assert open_statement(envelope, Statement.COMMAND, Command, keyring(archive)) == command()
