"""From the sealed manifest on: upload, archiving and admission, beside their peers."""

import shutil
from pathlib import Path
from tempfile import mkdtemp

from bench.admission import ADMITTED, BROKER_ALONE, measure_admission
from bench.figures import RATIO, Report
from bench.main_job import (
    measure_main_job,
    measure_small_job,
    prepared_site,
    write_clip,
    write_photos,
)
from bench.peers import archiving_peer, transfer_peer
from bench.uplink import measure_curl
from demo.site import DOCK
from runtime.tls import client_context, server_context


def measure_archive_side(
    report: Report,
    root: Path,
    *,
    clip_bytes: int,
    photos: int,
    manifests: int,
    recordings: int,
) -> None:
    """Measure one clip from docking to receipt, and how fast *manifests* are admitted.

    Args:
        report: Takes the figures.
        root: Where to work.
        clip_bytes: Of the one clip.
        photos: How many small files are docked after it.
        manifests: How many.
        recordings: How many are in the catalogue before the first of them comes.
    """
    work = Path(mkdtemp(dir=root))
    volume = root / "recorder"
    print("one clip, from docking to receipt")
    clip = write_clip(volume, clip_bytes)
    site = prepared_site(root / "site")
    measure_main_job(report, site, volume, clip)
    archive, dock, ca = site.pki / "archive", site.pki / DOCK, site.pki / "ca.pem"
    transfer_peer(
        report,
        clip,
        work,
        server_context(ca=ca, certificate=archive / "tls.pem", key=archive / "tls.key"),
        client_context(ca=ca, certificate=dock / "tls.pem", key=dock / "tls.key"),
    )
    measure_curl(report, root, clip)
    archiving_peer(report, clip, work)
    shutil.rmtree(volume)
    print(f"{photos} small files, from docking to receipt")
    write_photos(volume, photos)
    measure_small_job(report, prepared_site(root / "small"), volume, photos)
    shutil.rmtree(volume)
    print(f"{manifests} manifests")
    measure_admission(report, root, manifests=manifests, recordings=recordings)
    _ratios(report)


def _ratios(report: Report) -> None:
    for ours, peer in (
        ("upload: sealed manifest to last byte", "upload: bare TLS + SHA-256 + fsync"),
        ("archiving: last byte to receipt", "archiving: bagit.py, make + validate"),
        (ADMITTED, BROKER_ALONE),
    ):
        ratio = report.value(ours) / report.value(peer)
        report.add(f"ratio: {ours.partition(':')[0]}", ratio, RATIO, note=f"{ours} / {peer}")
