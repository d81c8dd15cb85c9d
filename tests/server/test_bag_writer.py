"""How a bag gets its place in the archive: whole, read back, and only once."""

import os
import shutil
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import bagit
import pytest

from protocol.digest import sha256_hex
from protocol.identifiers import ReceiptId
from protocol.receipt import Receipt, check_receipt
from server_agent.adapters import bag_writer
from server_agent.adapters.bag_errors import TagReadBackError, UnexpectedFileError
from server_agent.adapters.bag_verifier import verify_bag
from server_agent.adapters.bag_writer import BagWriter
from server_agent.archive.request import BagRequest
from server_agent.errors import BagOccupiedError, ReadBackError
from tests.simulators.bag_site import CLOSED_AT, BagSite, build_site

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def site(tmp_path: Path) -> BagSite:
    return build_site(tmp_path / "pki")


@pytest.fixture
def writer(tmp_path: Path) -> BagWriter:
    return BagWriter(tmp_path / "archive", clock=lambda: CLOSED_AT)


@pytest.fixture
def wanted(site: BagSite) -> BagRequest:
    return site.request(site.manifest.recordings[0])


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_bag_has_its_place(site: BagSite, writer: BagWriter, wanted: BagRequest) -> None:
    """A closed bag stands where the request says, and nothing against it is found."""
    site.fill(writer, wanted)

    archived = writer.close_bag(wanted)

    report = verify_bag(writer.root / wanted.target, ca_pem=site.ca_pem)
    assert report.findings == ()
    assert archived.path == str(wanted.target)
    assert archived.tagmanifest_sha256 == report.tagmanifest_sha256
    assert (archived.files, archived.size_bytes) == (report.files, report.size_bytes)
    assert not archived.existing


def test_payload_is_what_arrived(site: BagSite, writer: BagWriter, wanted: BagRequest) -> None:
    """The archive keeps the very bytes and writes none of them."""
    bag = site.fill(writer, wanted)
    before = {
        path.name: (path.read_bytes(), path.stat().st_ino) for path in (bag / "data").iterdir()
    }

    archived = writer.close_bag(wanted)

    data = writer.root / archived.path / "data"
    assert {path.name: (path.read_bytes(), path.stat().st_ino) for path in data.iterdir()} == before


def test_signed_bytes_are_kept(site: BagSite, writer: BagWriter, wanted: BagRequest) -> None:
    """The envelope, its payload and its signature stand in the bag byte for byte."""
    site.fill(writer, wanted)

    bayward = writer.root / writer.close_bag(wanted).path / "bayward"

    assert (bayward / "dock-manifest.dsse.json").read_bytes() == site.envelope
    assert (bayward / "dock-manifest.json").read_bytes() == wanted.payload
    assert (bayward / "dock-manifest.sig").read_bytes() == wanted.signature


def test_nothing_can_be_written(site: BagSite, tmp_path: Path) -> None:
    """No file and no folder of a closed bag has a write bit."""
    for bag in site.archive(tmp_path / "archive"):
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [bag, *bag.rglob("*")]}

        assert set(modes.values()) == {0o444, 0o555}
        assert all((mode == 0o555) is path.is_dir() for path, mode in modes.items())


@pytest.mark.parametrize("with_sm3", [True, False])
def test_stock_bagit_accepts_it(tmp_path: Path, with_sm3: bool) -> None:  # noqa: FBT001 -- a table's column
    """The Library of Congress' bagit validates every bag, with and without SM3."""
    site = build_site(tmp_path / "pki", with_sm3=with_sm3)

    for path in site.archive(tmp_path / "archive"):
        assert bagit.Bag(str(path)).validate(processes=1)
        assert (path / "manifest-sm3.txt").exists() is with_sm3


@pytest.mark.parametrize("manifest", ["manifest-sha256.txt", "tagmanifest-sha256.txt"])
def test_stock_sha256sum_accepts_it(site: BagSite, tmp_path: Path, manifest: str) -> None:
    """Both SHA-256 manifests are what sha256sum -c reads, without a warning."""
    for bag in site.archive(tmp_path / "archive"):
        done = subprocess.run(
            ["sha256sum", "--check", "--strict", manifest],
            cwd=bag,
            capture_output=True,
            text=True,
            check=False,
        )

        assert (done.returncode, done.stderr) == (0, "")


def test_stock_openssl_gives_the_same_sm3(site: BagSite, tmp_path: Path) -> None:
    """The second manifest has openssl's SM3 of every file."""
    for bag in site.archive(tmp_path / "archive"):
        lines = (bag / "manifest-sm3.txt").read_text().splitlines()
        names = [line.partition("  ")[2] for line in lines]
        done = subprocess.run(
            ["openssl", "dgst", "-sm3", "-r", *names],
            cwd=bag,
            capture_output=True,
            text=True,
            check=True,
        )

        assert [line.replace(" *", "  ") for line in done.stdout.splitlines()] == lines


def test_receipt_can_be_written(site: BagSite, tmp_path: Path) -> None:
    """What the writer says of its bags is what the dock expects in a receipt."""
    writer = BagWriter(tmp_path / "archive", clock=lambda: CLOSED_AT)
    for request in site.requests():
        site.fill(writer, request)
    payload_sha256 = sha256_hex(site.requests()[0].payload)
    receipt = Receipt(
        receipt_id=ReceiptId("01a207be-9420-7000-8000-000000000000"),
        manifest_id=site.manifest.manifest_id,
        dock=site.manifest.dock,
        sequence=site.manifest.sequence,
        payload_sha256=payload_sha256,
        archived_at=datetime(2026, 11, 23, tzinfo=UTC),
        bags=tuple(map(writer.close_bag, site.requests())),
    )

    assert not check_receipt(receipt, site.manifest, payload_sha256=payload_sha256)


def test_closing_again_changes_nothing(
    site: BagSite, writer: BagWriter, wanted: BagRequest
) -> None:
    """A bag that is asked for again is read again, and stays as it is."""
    site.fill(writer, wanted)
    archived = writer.close_bag(wanted)
    before = tree(writer.root)

    assert writer.close_bag(wanted) == archived
    assert tree(writer.root) == before


def test_closing_again_reads_the_disk(site: BagSite, writer: BagWriter, wanted: BagRequest) -> None:
    """A bag that was damaged in its place is not vouched for a second time."""
    site.fill(writer, wanted)
    clip = writer.root / writer.close_bag(wanted).path / "data" / wanted.files[0].safe_name
    clip.chmod(0o600)
    clip.write_bytes(b"X" + clip.read_bytes()[1:])

    with pytest.raises(BagOccupiedError, match="F-BAG-002"):
        writer.close_bag(wanted)


def test_place_of_another_manifest(
    site: BagSite, writer: BagWriter, wanted: BagRequest, tmp_path: Path
) -> None:
    """A dock that uses a recording's id again, in another manifest, replaces nothing."""
    site.fill(writer, wanted)
    writer.close_bag(wanted)
    before = tree(writer.root)
    later = build_site(tmp_path / "pki", sealed_at=datetime(2026, 11, 24, tzinfo=UTC))
    again = later.request(later.manifest.recordings[0])

    with pytest.raises(BagOccupiedError, match="another manifest"):
        writer.close_bag(again)

    assert tree(writer.root) == before


def test_place_of_another_manifest_costs_nothing(
    site: BagSite,
    writer: BagWriter,
    wanted: BagRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever names the place of a large bag again and again does not have it read each time."""
    site.fill(writer, wanted)
    writer.close_bag(wanted)
    later = build_site(tmp_path / "pki", sealed_at=datetime(2026, 11, 24, tzinfo=UTC))
    monkeypatch.setattr(bag_writer, "verify_bag", None)

    with pytest.raises(BagOccupiedError):
        writer.close_bag(later.request(later.manifest.recordings[0]))


def test_something_else_in_the_place(site: BagSite, writer: BagWriter, wanted: BagRequest) -> None:
    """A file that has the bag's place is left alone."""
    site.fill(writer, wanted)
    target = writer.root / wanted.target
    target.parent.mkdir(parents=True)
    target.write_text("not a bag")

    with pytest.raises(BagOccupiedError):
        writer.close_bag(wanted)

    assert target.read_text() == "not a bag"


def test_wrong_byte_keeps_the_bag_out(site: BagSite, writer: BagWriter, wanted: BagRequest) -> None:
    """A file that does not read back as promised is named, left alone, and the bag stays out."""
    bag = site.fill(writer, wanted)
    clip = bag / "data" / wanted.files[1].safe_name
    damaged = clip.read_bytes()[:-1] + b"?"
    clip.write_bytes(damaged)

    with pytest.raises(ReadBackError) as caught:
        writer.close_bag(wanted)

    assert caught.value.safe_names == (wanted.files[1].safe_name,)
    assert clip.read_bytes() == damaged
    assert not (writer.root / wanted.target).exists()


def test_bag_is_closed_after_repair(site: BagSite, writer: BagWriter, wanted: BagRequest) -> None:
    """Once the named file has arrived again, the bag can be closed."""
    bag = site.fill(writer, wanted)
    clip = bag / "data" / wanted.files[0].safe_name
    good = clip.read_bytes()
    clip.write_bytes(b"?" * len(good))
    with pytest.raises(ReadBackError):
        writer.close_bag(wanted)

    clip.rename(writer.root / ".incoming/bad")
    clip.write_bytes(good)

    assert writer.close_bag(wanted).files == len(wanted.files)


@pytest.mark.parametrize("content", [None, b"", b"too long " * 100_000])
def test_incomplete_payload_keeps_the_bag_out(
    site: BagSite, writer: BagWriter, wanted: BagRequest, content: bytes | None
) -> None:
    """A file that is missing or of another size is named before anything is written."""
    bag = site.fill(writer, wanted)
    clip = bag / "data" / wanted.files[0].safe_name
    clip.unlink()
    if content is not None:
        clip.write_bytes(content)

    with pytest.raises(ReadBackError) as caught:
        writer.close_bag(wanted)

    assert caught.value.safe_names == (wanted.files[0].safe_name,)
    assert not (bag / "bagit.txt").exists()


def test_nothing_arrived(writer: BagWriter, wanted: BagRequest) -> None:
    """Without its folder, a bag misses every file."""
    with pytest.raises(ReadBackError) as caught:
        writer.close_bag(wanted)

    assert set(caught.value.safe_names) == {file.safe_name for file in wanted.files}


def test_link_in_the_payload(
    site: BagSite, writer: BagWriter, wanted: BagRequest, tmp_path: Path
) -> None:
    """A link that stands for a clip is not followed, be its target the clip itself."""
    bag = site.fill(writer, wanted)
    clip = bag / "data" / wanted.files[0].safe_name
    clip.rename(tmp_path / "clip")
    clip.symlink_to(tmp_path / "clip")

    with pytest.raises(UnexpectedFileError):
        writer.close_bag(wanted)


def test_file_that_nobody_promised(site: BagSite, writer: BagWriter, wanted: BagRequest) -> None:
    """What nobody promised is neither archived nor removed."""
    bag = site.fill(writer, wanted)
    stray = bag / "data/stray"
    stray.write_text("?")

    with pytest.raises(UnexpectedFileError) as caught:
        writer.close_bag(wanted)

    assert caught.value.untrusted_paths == ("data/stray",)
    assert stray.read_text() == "?"


def test_disk_that_changes_a_tag_file(
    site: BagSite, writer: BagWriter, wanted: BagRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tag file that the disk keeps wrongly is found before the bag has its place."""
    write = os.write

    def write_wrongly(fd: int, data: memoryview) -> int:
        return write(fd, bytes(data).replace(b"BagIt-Version: 1.0", b"BagIt-Version: 1.1"))

    site.fill(writer, wanted)
    with monkeypatch.context() as disk:
        disk.setattr(os, "write", write_wrongly)
        with pytest.raises(TagReadBackError) as caught:
            writer.close_bag(wanted)
    assert caught.value.tags == ("bagit.txt",)
    assert not (writer.root / wanted.target).exists()

    assert writer.close_bag(wanted).files == len(wanted.files)


def test_target_outside_the_archive(
    site: BagSite, writer: BagWriter, wanted: BagRequest, tmp_path: Path
) -> None:
    """A target that is not the bag's own place is our own mistake, and nothing is written."""
    site.fill(writer, wanted)

    with pytest.raises(ValueError, match="no place"):
        writer.close_bag(site_request(wanted, f"../{wanted.target.name}"))

    assert not (tmp_path / wanted.target.name).exists()


def site_request(request: BagRequest, target: str) -> BagRequest:
    fields = {name: getattr(request, name) for name in BagRequest.__slots__}
    return BagRequest(**fields | {"target": type(request.target)(target)})


def test_unfinished_manifests_are_listed(
    site: BagSite, writer: BagWriter, wanted: BagRequest
) -> None:
    """A manifest is listed from its first file until its folder is forgotten, even an empty one."""
    assert writer.unfinished() == []

    bag = site.fill(writer, wanted)
    assert writer.unfinished() == [wanted.manifest_id]

    writer.close_bag(wanted)
    assert list(bag.parent.iterdir()) == []
    assert writer.unfinished() == [wanted.manifest_id]

    writer.forget_incoming(wanted.manifest_id)
    assert writer.unfinished() == []


def test_empty_folders_are_forgotten(site: BagSite, writer: BagWriter, wanted: BagRequest) -> None:
    """Empty folders of closed bags go; one that holds a file stays."""
    site.fill(writer, wanted)
    writer.close_bag(wanted)
    writer.incoming_dir(wanted.manifest_id, wanted.group)
    other = site.request(None)
    kept = site.fill(writer, other)

    writer.forget_incoming(wanted.manifest_id)
    assert list(kept.parent.iterdir()) == [kept]

    writer.close_bag(other)
    writer.forget_incoming(wanted.manifest_id)
    assert list((writer.root / ".incoming").iterdir()) == []


# Root may write into folders without write bits, unless it gives that right up.
AS_USER = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
CLOSE_TWICE = """
import pathlib, sys
from tests.simulators.bag_site import build_site
from server_agent.adapters.bag_writer import BagWriter
folder = pathlib.Path(sys.argv[1])
site = build_site(folder / "pki")
request = site.request(site.manifest.recordings[0])
writer = BagWriter(folder / "archive")
bag = site.fill(writer, request)
for inner in ("data", "bayward"):
    (bag / inner).mkdir(exist_ok=True)
    (bag / inner).chmod(0o555)
try:
    (bag / "data/x").touch()
except PermissionError:
    assert writer.close_bag(request) == writer.close_bag(request)
else:
    sys.exit("this user may write anywhere")
"""


def test_ordinary_user_closes_bags(tmp_path: Path) -> None:
    """Without root's rights a bag is closed as well, again, and after a stop half-way."""
    prefix = AS_USER if os.geteuid() == 0 and shutil.which("setpriv") else ()
    done = subprocess.run(
        [*prefix, sys.executable, "-c", CLOSE_TWICE, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
