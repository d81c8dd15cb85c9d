"""How fast `curl -T` brings a clip to the archive's own endpoint: what any tus client can reach."""

from base64 import b64encode
from hashlib import file_digest
from pathlib import Path
from typing import Final

import uvloop

from bench.admission import exchange
from bench.figures import MIB, Report
from bench.main_job import prepared_site
from bench.manifests import Content, signed_chain
from bench.peers import evict, timed
from demo.programs import DemoError, find_tool, run_tool
from demo.site import DOCK, Site
from protocol.envelope import parse_statement, take_apart
from protocol.manifest import Manifest
from protocol.versions import Statement

CURL: Final = "upload: curl -T to the same endpoint"

_TUS: Final = ("-H", "Tus-Resumable: 1.0.0")


def measure_curl(report: Report, root: Path, clip: Path) -> None:
    """Send *clip* in one request to an archive that was promised it; it is hashed and synced."""
    site = prepared_site(root / "uplink")
    with clip.open("rb") as opened:
        sha256 = file_digest(opened, "sha256").hexdigest()
    content = Content(sha256=sha256, size_bytes=clip.stat().st_size)
    [envelope] = signed_chain(site, DOCK, [[content]])
    site.start_archive()
    try:
        uvloop.run(exchange(site, {DOCK: [envelope]}))
        upload = _create(site, envelope, content)
        evict(clip)
        sending = ["-X", "PATCH", "-H", "Upload-Offset: 0"]
        sending += ["-H", "Content-Type: application/offset+octet-stream", "-T", str(clip)]
        seconds = timed(lambda: _curl(site, upload, *sending))
    finally:
        site.stop()
    rate = content.size_bytes / MIB / seconds
    report.add(CURL, rate, "MiB/s", ours=False, note="the file's bytes once, in one request")


def _create(site: Site, envelope: bytes, content: Content) -> str:
    manifest = parse_statement(take_apart(envelope), Statement.MANIFEST, Manifest)
    named = {"manifest": manifest.manifest_id, "sha256": content.sha256}
    metadata = ",".join(f"{key} {b64encode(text.encode()).decode()}" for key, text in named.items())
    length = f"Upload-Length: {content.size_bytes}"
    told = _curl(
        site, "/v1/uploads", "-X", "POST", "-H", length, "-H", f"Upload-Metadata: {metadata}"
    )
    for line in told.splitlines():
        if line.lower().startswith("location:"):
            return line.partition(":")[2].strip()
    raise DemoError(f"the archive made no upload:\n{told}")


def _curl(site: Site, path: str, *arguments: str) -> str:
    own = site.pki / DOCK
    tls = ("--cacert", site.pki / "ca.pem", "--cert", own / "tls.pem", "--key", own / "tls.key")
    url = f"https://127.0.0.1:{site.https_port}{path}"
    quietly = ("--silent", "--show-error", "--fail", "-D", "-", "-H", "Expect:")
    return run_tool([find_tool("curl"), *quietly, *map(str, tls), *_TUS, *arguments, url])
