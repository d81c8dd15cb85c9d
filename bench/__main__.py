"""The measured figures beside their peers, all in one run: `make bench`."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from bench.admission import measure_admission
from bench.figures import MIB, RATIO, Report
from bench.main_job import measure_main_job, prepared_site, write_clip
from bench.peers import archiving_peer, copying_peers, transfer_peer
from demo.programs import DemoError
from demo.site import DOCK, clear
from runtime.tls import client_context, server_context


def main() -> int:
    """Measure, print, write JSON; 0 when everything could be measured."""
    parser = argparse.ArgumentParser(
        prog="make bench ARGS=…",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n"
        "  make bench                                     one 1 GiB file, 3000 manifests\n"
        "  make bench ARGS='--size-mib 64 --manifests 300'  a quick look\n",
    )
    parser.add_argument("--size-mib", type=int, default=1024, help="size of the one file")
    parser.add_argument("--manifests", type=int, default=3000, help="how many are admitted")
    parser.add_argument("--dir", type=Path, help="where to work; by default beside the results")
    asked = parser.parse_args()
    root = asked.dir or Path(__file__).resolve().parent / "results" / "work"
    report = Report()
    try:
        clear(root)
        _measure(report, root, asked)
    except DemoError as error:
        print(f"make bench: {error}", file=sys.stderr)
        return 1
    finally:
        if (root / ".bayward-demo").exists():
            clear(root)
    _ratios(report)
    print(f"written to {report.write()}")
    return 0


def _measure(report: Report, root: Path, asked: argparse.Namespace) -> None:
    work = Path(tempfile.mkdtemp(dir=root))
    volume = root / "recorder"
    print(f"one file of {asked.size_mib} MiB, from docking to receipt")
    clip = write_clip(volume, asked.size_mib * MIB)
    site = prepared_site(root / "site")
    measure_main_job(report, site, volume, clip)
    print("peers, on the same disk")
    copying_peers(report, clip, work)
    archive, dock = site.pki / "archive", site.pki / DOCK
    ca = site.pki / "ca.pem"
    transfer_peer(
        report,
        clip,
        work,
        server_context(ca=ca, certificate=archive / "tls.pem", key=archive / "tls.key"),
        client_context(ca=ca, certificate=dock / "tls.pem", key=dock / "tls.key"),
    )
    archiving_peer(report, clip, work)
    shutil.rmtree(volume)
    print(f"{asked.manifests} manifests")
    measure_admission(report, site, work, asked.manifests)


def _ratios(report: Report) -> None:
    print("ratios of this run")
    for ours, peer in (
        ("staging: docking to sealed manifest, L2", "staging: cp + sync + evict + sha256sum -c"),
        ("upload: sealed manifest to last byte", "upload: bare TLS + SHA-256 + fsync"),
        ("archiving: last byte to receipt", "archiving: bagit.py, make + validate"),
        ("manifests: checked, committed and receipted", "manifests: mosquitto alone"),
    ):
        ratio = report.value(ours) / report.value(peer)
        report.add(f"ratio: {ours.partition(':')[0]}", ratio, RATIO, note=f"{ours} / {peer}")


if __name__ == "__main__":
    sys.exit(main())
