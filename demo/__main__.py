"""The main job, end to end, with real programs: `make demo`."""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from demo.check import Verdict, check_archive, receipts_by_bag
from demo.footage import FootageError
from demo.guard import may_have_own_network
from demo.programs import DemoError, ours
from demo.proof import prove
from demo.scenario import MIB, UNREGISTERED_BAY, Evening, registered
from demo.show import Show
from demo.site import Site, SiteOptions, clear
from demo.volumes import TargetError, build_volumes
from demo.watching import Watching

# As fast as a folder that stands for a recorder is read: slow enough to be watched.
_READ_LIMIT_BYTES_S: Final = 12 * MIB
_CONSOLE_PORT: Final = 8420
_USER: Final = "admin"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make demo ARGS=…",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Dock recorders with real footage, archive and verify it, show the console.",
        epilog="examples:\n"
        "  make demo                       watch it, then look at the console until Ctrl-C\n"
        "  make demo ARGS=--once           end when everything is archived and verified\n"
        "  make demo ARGS=--plain          lines instead of a moving table\n"
        "  DEMO_DIR=/tmp/d make demo       put everything elsewhere (default .demo)\n",
    )
    parser.add_argument("--once", action="store_true", help="end when all is archived and verified")
    parser.add_argument("--plain", action="store_true", help="no moving table")
    parser.add_argument("--port", type=int, default=_CONSOLE_PORT, help="the console's port")
    parser.add_argument("--dir", type=Path, default=Path(os.environ.get("DEMO_DIR") or ".demo"))
    return parser


def _start(site: Site, show: Show) -> None:
    show.step("making keys and certificates, generating the broker's configuration")
    site.prepare()
    show.step("starting mosquitto, server-agent, server-console, edge-guard and edge-agent")
    show.step(
        "edge-guard keeps the no-internet rule in a network namespace of its own"
        if site.options.guard
        else "edge-guard runs dry: without root, or nft, it cannot have a network of its own"
    )
    site.start_archive()
    password = site.add_console_user(_USER, "device_administrator")
    site.start_console()
    site.start_dock()
    show.step(f"console: [bold]{site.console_url}[/bold]  user {_USER}  password {password}")


def _conclude(site: Site, verdict: Verdict, show: Show) -> bool:
    show.result(verdict.rows)
    show.step(
        f"{len(verdict.rows)} files in {len(verdict.bags)} bags; the recorder in bay "
        f"{UNREGISTERED_BAY} is not registered: nothing of it was taken, one alert was raised"
    )
    biggest = max(
        verdict.bags, key=lambda bag: sum(file.stat().st_size for file in bag.glob("data/*"))
    )
    show.step(f"any bag can be proved with stock tools; this one, in {biggest}:")
    good = not verdict.faults
    for proof in prove(biggest, ca=site.pki / "ca.pem", work=site.root / "proof"):
        mark = "[green]✔[/green]" if proof.succeeded else "[red]✖[/red]"
        show.console.print(f"  {mark} [bold]$[/bold]", end=" ")
        show.console.print(proof.command, markup=False)
        if proof.printed:
            show.console.print("      " + proof.printed.replace("\n", "\n      "), markup=False)
        good = good and proof.succeeded
    verified = subprocess.run(
        ours("server-agent", "verify", "--ca", str(site.pki / "ca.pem"), str(site.archive)),
        capture_output=True,
        text=True,
        check=False,
    )
    show.console.print(
        f"  [bold]$[/bold] server-agent verify --ca {site.pki}/ca.pem {site.archive}"
    )
    show.console.print(
        "      " + (verified.stdout + verified.stderr).strip().replace("\n", "\n      "),
        markup=False,
    )
    for fault in verdict.faults:
        show.console.print(f"  [red]✖ {fault}[/red]")
    return good and verified.returncode == 0


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; the result is the exit status."""
    root: Path = arguments.dir
    with Show(plain=arguments.plain) as show:
        clear(root, keep=("cache",))
        show.step("making footage with ffmpeg (kept for the next time)")
        volumes = build_volumes(root / "recorders", root / "cache")
        options = SiteOptions(
            read_limit_bytes_s=_READ_LIMIT_BYTES_S,
            console_port=arguments.port,
            driver="line-protocol-1",
            guard=may_have_own_network(),
        )
        site = Site(root, registered(volumes), options)
        evening = Evening(site, volumes, show.step)
        try:
            _start(site, show)
            with Watching(site.control_socket) as watching:
                evening.run(watching, show.bay)
            show.stop_moving()
            verdict = check_archive(volumes, site.archive, receipts_by_bag(site.journal))
            good = _conclude(site, verdict, show)
            show.step(
                "everything is archived and verified" if good else "[red]something is wrong[/red]"
            )
            if good and not arguments.once:
                show.step(f"the console stays at {site.console_url} until Ctrl-C")
                with contextlib.suppress(KeyboardInterrupt):
                    signal.pause()
        finally:
            site.stop()
            evening.end()
    return 0 if good else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run; errors are one line that says what to do."""
    parsed = _parser().parse_args(arguments)
    # Being asked to end is like Ctrl-C: what was started is ended as well.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(parsed)
    except (DemoError, FootageError, TargetError) as error:
        print(f"make demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
