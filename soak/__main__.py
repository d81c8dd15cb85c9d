"""Half an hour in which everything goes wrong at random, judged from outside: `make soak`."""

import argparse
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from demo.programs import DemoError
from demo.site import clear
from soak.heavy_load import carry_heavy
from soak.own_disk import unmount_below
from soak.turmoil import run_turmoil

_FAULTS: Final = Path(__file__).resolve().parent.parent / "tests" / "faults"
# Where there is an operation on a disk to stop at; the others always test all they know.
_FAULT_TESTS: Final = tuple(
    str(_FAULTS / name)
    for name in ("test_archive_power_cut.py", "test_dock_power_cut.py", "test_dock_bad_disk.py")
)
_FAULTS_TIMEOUT_S: Final = 4 * 3600


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make soak ARGS=…",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n"
        "  make soak                              half an hour\n"
        "  make soak ARGS='--minutes 2 --seed 7'  the dice of another run, for two minutes\n"
        "  make soak ARGS=--load                  24 bays, 100,000 files, one of 200 GB\n"
        "  make soak ARGS=--faults                first, for hours, every fault test everywhere\n",
    )
    parser.add_argument("--minutes", type=float, default=30, help="how long (default: 30)")
    parser.add_argument("--seed", type=int, help="of all dice (default: any)")
    parser.add_argument("--dir", type=Path, default=Path(".soak"), help="where to work (.soak)")
    parser.add_argument(
        "--load",
        action="store_true",
        help="nothing else: 24 bays, 100,000 files and one of 200 GB of zeros, on a disk in memory",
    )
    parser.add_argument(
        "--faults", action="store_true", help="first stop everything at every disk operation"
    )
    return parser


def main() -> int:
    """Soak, print a table, and return 0 when nothing is wrong."""
    # So that whoever ends us ends what we started, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    asked = _parser().parse_args()
    seed = secrets.randbelow(1_000_000) if asked.seed is None else asked.seed
    what = "--load" if asked.load else f"--minutes {asked.minutes:g}"
    again = f"make soak ARGS='{what} --seed {seed}'"
    print(f"seed {seed}; again with: {again}", flush=True)
    if asked.faults and not _fault_tests_pass():
        print(f"make soak: a fault test failed; they are in {_FAULTS}", file=sys.stderr)
        return 1
    try:
        unmount_below(asked.dir)
        clear(asked.dir)
        if asked.load:
            result = carry_heavy(asked.dir.resolve(), seed=seed)
        else:
            result = run_turmoil(asked.dir.resolve(), seed=seed, minutes=asked.minutes)
    except (DemoError, OSError) as error:
        print(f"make soak: {error}\neverything is in {asked.dir}; again: {again}", file=sys.stderr)
        return 1
    width = max(len(name) for name, _ in result.rows)
    for name, told in result.rows:
        print(f"{name:{width}}  {told:>12}")
    for fault in result.faults:
        print(f"FAULT: {fault}", file=sys.stderr)
    if result.faults:
        print(f"everything is in {asked.dir}; again: {again}", file=sys.stderr)
        return 1
    print("every byte archived once, nothing left behind")
    clear(asked.dir)
    return 0


def _fault_tests_pass() -> bool:
    """Stop everything at every operation on the disk, where `make test` takes samples."""
    print("fault tests: every operation on the disk, for hours", flush=True)
    limits = ("-n", "2", "--timeout", str(_FAULTS_TIMEOUT_S))
    command = [sys.executable, "-m", "pytest", "-q", *limits, *_FAULT_TESTS]
    everywhere = {**os.environ, "BAYWARD_FAULTS": "all"}
    return subprocess.run(command, env=everywhere, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
