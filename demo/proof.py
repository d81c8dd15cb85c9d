"""The stock commands that prove one bag, run for the user once."""

import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One command as an expert would type it in the bag's folder, and what it printed."""

    command: str
    printed: str
    succeeded: bool


_TYPE: Final = "application/vnd.bayward.manifest.v1+json"
_COMMANDS: Final = (
    "sha256sum -c manifest-sha256.txt",
    "sha256sum -c tagmanifest-sha256.txt",
    "openssl verify -CAfile bayward/ca.pem bayward/dock-signing.pem",
    (
        f"{{ printf 'DSSEv1 {len(_TYPE)} {_TYPE} %d ' $(stat -c %s bayward/dock-manifest.json)"
        "; cat bayward/dock-manifest.json; } > $WORK/signed"
    ),
    "openssl x509 -in bayward/dock-signing.pem -pubkey -noout > $WORK/dock.pub",
    (
        "openssl pkeyutl -verify -pubin -inkey $WORK/dock.pub -rawin"
        " -in $WORK/signed -sigfile bayward/dock-manifest.sig"
    ),
)


def prove(bag: Path, work: Path) -> Iterator[Proof]:
    """Run the commands of docs/verify.md in *bag*; what they write goes to *work*."""
    work.mkdir(parents=True, exist_ok=True)
    for command in _COMMANDS:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=bag,
            env={"PATH": "/usr/bin:/bin", "WORK": shlex.quote(str(work.resolve()))},
            capture_output=True,
            text=True,
            check=False,
        )
        yield Proof(
            command=command,
            printed=(done.stdout + done.stderr).strip(),
            succeeded=done.returncode == 0,
        )
