"""The stock commands that prove one bag, run for the user once."""

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
    'openssl verify -CAfile "$CA" bayward/dock-signing.pem',
    (
        f"{{ printf 'DSSEv1 {len(_TYPE)} {_TYPE} %d ' $(stat -c %s bayward/dock-manifest.json);"
        ' cat bayward/dock-manifest.json; } > "$WORK/signed"'
    ),
    'openssl x509 -in bayward/dock-signing.pem -pubkey -noout > "$WORK/dock.pub"',
    (
        'openssl pkeyutl -verify -pubin -inkey "$WORK/dock.pub" -rawin'
        ' -in "$WORK/signed" -sigfile bayward/dock-manifest.sig'
    ),
)


def prove(bag: Path, *, ca: Path, work: Path) -> Iterator[Proof]:
    """Run what docs/verify.md explains in *bag*, a step a command.

    Args:
        bag: The bag's folder.
        ca: The site's certificate, from where the expert trusts it: not the one in the bag.
        work: Where the commands may write.
    """
    work.mkdir(parents=True, exist_ok=True)
    for command in _COMMANDS:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=bag,
            env={"PATH": "/usr/bin:/bin", "CA": str(ca.resolve()), "WORK": str(work.resolve())},
            capture_output=True,
            text=True,
            check=False,
        )
        yield Proof(
            command=command,
            printed=(done.stdout + done.stderr).strip(),
            succeeded=done.returncode == 0,
        )
