"""Each way in which a bag can be wrong, by its code, made from a good bag."""

import errno
import hashlib
import json
import os
import re
import shutil
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from protocol.envelope import sign_statement, take_apart
from protocol.findings import FindingCode
from protocol.manifest import Manifest
from protocol.versions import Statement
from runtime.keys import load_signing_key
from server_agent.adapters.bag_verifier import Progress, verify_bag
from server_agent.pki.folder import PkiFolder
from tests.simulators.bag_site import DOCK, ISSUED_AT
from tests.simulators.bagged import Bagged, bags_of

CLIP = "012345_0000017_20261121083012_0001.MP4"


@pytest.fixture
def bag(tmp_path: Path) -> Bagged:
    return next(bags_of(tmp_path, with_sm3=False))


def test_good_bag(bag: Bagged) -> None:
    """Nothing is found against a good bag, and the report says what it is."""
    report = bag.report()

    assert report.findings == ()
    assert report.ok
    assert report.recording_id == bag.path.name
    assert report.manifest_id == bag.site.manifest.manifest_id
    assert report.dock == DOCK
    assert (
        report.tagmanifest_sha256 == hashlib.sha256(bag.read("tagmanifest-sha256.txt")).hexdigest()
    )
    assert (report.files, report.size_bytes) == (3, sum(map(len, bag.site.content.values())) - 14)
    assert report.anchored


def test_missing_clip(bag: Bagged) -> None:
    """A clip that is gone is F-BAG-001."""
    (bag.path / "data" / CLIP).unlink()

    assert bag.codes() == [FindingCode.BAG_FILE_MISSING]


def test_changed_clip(bag: Bagged) -> None:
    """A clip with one other byte is F-BAG-002."""
    bag.write(f"data/{CLIP}", b"F" + bag.read(f"data/{CLIP}")[1:])

    assert bag.codes() == [FindingCode.BAG_DIGEST_DIFFERS]


def test_longer_clip(bag: Bagged) -> None:
    """A clip that has grown is F-BAG-002, without its bytes being read."""
    with (bag.path / "data" / CLIP).open("r+b") as clip:
        clip.truncate(1 << 42)

    assert bag.codes() == [FindingCode.BAG_DIGEST_DIFFERS]


def test_changed_sm3(tmp_path: Path) -> None:
    """A wrong line of the second manifest is found, though SHA-256 is right."""
    bag = next(bags_of(tmp_path, with_sm3=True))
    lines = bag.read("manifest-sm3.txt").splitlines(keepends=True)
    bag.write("manifest-sm3.txt", b"0" * 64 + lines[0][64:] + b"".join(lines[1:]))
    bag.seal()

    assert set(bag.codes()) == {FindingCode.BAG_DIGEST_DIFFERS, FindingCode.BAG_MANIFEST_DIFFERS}


@pytest.mark.parametrize(
    "name", ["data/another.MP4", "notes.txt", "bayward/recording.json~", "x/y"]
)
def test_extra_file(bag: Bagged, name: str) -> None:
    """A file that nobody lists is F-BAG-003, wherever in the bag it lies."""
    bag.write(name, b"?")

    assert bag.codes() == [FindingCode.BAG_FILE_EXTRA]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("bagit.txt", b"1.0", b"0.97"),
        ("bag-info.txt", b"Payload-Oxum: ", b"Payload-Oxum"),
        ("bag-info.txt", b"Bagging-Date", b"Payload-Oxum"),
        ("manifest-sha256.txt", b"  data", b" data"),
        ("manifest-sha256.txt", b"\n", b"\r\n"),
        ("manifest-sha256.txt", b"  data/", b"  bayward/"),
        ("manifest-sha256.txt", CLIP.encode(), b"\xff"),
        ("bayward/recording.json", b'"files"', b'"Files"'),
        ("bayward/recording.json", b'"bay": 1', b'"bay": 1, "bay": 1'),
        ("bayward/dock-manifest.dsse.json", b'"payload"', b'"Payload"'),
    ],
)
def test_malformed_tag(bag: Bagged, name: str, old: bytes, new: bytes) -> None:
    """A tag file that is not what it should be is F-BAG-004, though its digest is made right."""
    bag.replace(name, old, new)
    bag.seal()

    assert FindingCode.BAG_TAG_MALFORMED in bag.codes()


def test_oversized_tag(bag: Bagged) -> None:
    """A tag file that is larger than it can be is not read."""
    with (bag.path / "bagit.txt").open("r+b") as tag:
        tag.truncate(1 << 42)

    assert bag.codes() == [FindingCode.BAG_TAG_MALFORMED]


def test_line_that_stands_twice(bag: Bagged) -> None:
    """A manifest that lists a file twice could be read in two ways: F-BAG-004."""
    line = bag.read("manifest-sha256.txt").splitlines(keepends=True)[0]
    bag.write("manifest-sha256.txt", bag.read("manifest-sha256.txt") + b"0" * 64 + line[64:])
    bag.seal()

    assert bag.codes() == [FindingCode.BAG_TAG_MALFORMED]


@pytest.mark.parametrize("name", ["bag-info.txt", "bayward/ca.pem", "manifest-sha256.txt"])
def test_changed_tag(bag: Bagged, name: str) -> None:
    """A tag file that was changed is F-BAG-005."""
    content = bag.read(name)
    bag.write(name, content + b"#" if name.endswith("pem") else content.replace(b"1", b"2"))

    assert FindingCode.BAG_TAG_DIFFERS in bag.codes()


@pytest.mark.parametrize("name", ["dock-manifest.json", "dock-manifest.sig"])
def test_wrong_signature(bag: Bagged, name: str) -> None:
    """A manifest or signature beside the envelope that is not the envelope's is F-BAG-006."""
    content = bag.read(f"bayward/{name}")
    bag.write(f"bayward/{name}", content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    bag.seal()

    assert FindingCode.BAG_SIGNATURE_WRONG in bag.codes()


def sign_again(bag: Bagged, manifest: Manifest, key: Path) -> None:
    """Replace the dock's statement by another one, in all its forms."""
    envelope = sign_statement(manifest, Statement.MANIFEST, load_signing_key(key))
    sealed = take_apart(envelope)
    digest = hashlib.sha256(sealed.payload).hexdigest().encode()
    bag.write("bayward/dock-manifest.dsse.json", envelope)
    bag.write("bayward/dock-manifest.json", sealed.payload)
    bag.write("bayward/dock-manifest.sig", sealed.signature)
    info = re.sub(rb"(?<=SHA256: )[0-9a-f]{64}", digest, bag.read("bag-info.txt"))
    bag.write("bag-info.txt", info)
    bag.seal()


def test_signed_by_another_key(bag: Bagged, tmp_path: Path) -> None:
    """A manifest that another key signed, under the dock's certificate, is F-BAG-006."""
    other = PkiFolder(tmp_path / "other")
    other.create_authority(ISSUED_AT)
    other.issue_dock(DOCK, ISSUED_AT)

    sign_again(bag, bag.site.manifest, tmp_path / "other" / DOCK / "signing.key")

    assert bag.codes() == [FindingCode.BAG_SIGNATURE_WRONG]


def test_clip_replaced_by_another(bag: Bagged) -> None:
    """A clip that was replaced, with every list in the bag made right, is F-BAG-007."""
    old, new = bag.read(f"data/{CLIP}"), b"another story"
    for name in ("manifest-sha256.txt", "bayward/recording.json"):
        was, now = (hashlib.sha256(content).hexdigest().encode() for content in (old, new))
        bag.replace(name, was, now)
    bag.replace("bayward/recording.json", b'"size_bytes": %d' % len(old), b'"size_bytes": 13')
    oxum = sum(
        file["size_bytes"] for file in json.loads(bag.read("bayward/recording.json"))["files"]
    )
    bag.write("bag-info.txt", re.sub(rb"Oxum: \d+", b"Oxum: %d" % oxum, bag.read("bag-info.txt")))
    bag.write(f"data/{CLIP}", new)
    bag.seal()

    assert set(bag.codes()) == {FindingCode.BAG_MANIFEST_DIFFERS}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("bayward/recording.json", b'"officer": "012345"', b'"officer": "543210"'),
        ("bayward/recording.json", b'"marked": true', b'"marked": false'),
        ("bayward/recording.json", b"2026-11-21", b"2026-11-22"),
        ("bag-info.txt", b"Payload-Oxum: 1", b"Payload-Oxum: 2"),
        ("bag-info.txt", b"Bayward-Dock: dock-01", b"Bayward-Dock: dock-02"),
        ("bag-info.txt", b"Bayward-Officer: 012345", b"Bayward-Officer: 999999"),
        ("bag-info.txt", b"Bayward-Officer: 012345\n", b""),
        ("bag-info.txt", b"Bayward-Recorder: R-0001", b"Bayward-Recorder: R-0002"),
        ("bag-info.txt", b"Bayward-Recorded-On: 2026-11-21", b"Bayward-Recorded-On: 2026-11-20"),
        ("bag-info.txt", b"Evidence-Level: L2", b"Evidence-Level: L3"),
        ("bag-info.txt", b"Bayward-Docking: 01", b"Bayward-Docking: 02"),
        ("bag-info.txt", b"Manifest-Sequence: 1", b"Manifest-Sequence: 2"),
        ("bag-info.txt", b"Bagging-Date: 2026-11-23", b"Bagging-Date: 2026-11-24"),
        ("bag-info.txt", b"Bayward-Dock:", b"Bayward-Case: 7\nBayward-Dock:"),
        ("bag-info.txt", b"Bayward-Dock:", b"bayward-officer: 999999\nBayward-Dock:"),
        ("bag-info.txt", b"Bayward-Dock:", b"payload-oxum: 1.1\nBayward-Dock:"),
    ],
)
def test_told_otherwise_than_signed(bag: Bagged, name: str, old: bytes, new: bytes) -> None:
    """What a bag says of itself beside what the dock signed is F-BAG-007."""
    bag.replace(name, old, new)
    bag.seal()

    assert set(bag.codes()) == {FindingCode.BAG_MANIFEST_DIFFERS}


def test_swapped_bags(tmp_path: Path) -> None:
    """A good bag in the place of another good bag is F-BAG-007."""
    first, _ = bags_of(tmp_path / "1", label="1")
    second, _ = bags_of(tmp_path / "2", label="2")
    shutil.rmtree(first.path)
    second.path.rename(first.path)

    report = verify_bag(first.path, ca_pem=second.site.ca_pem)

    assert [found.code for found in report.findings] == [FindingCode.BAG_MANIFEST_DIFFERS]


def test_copied_bag(bag: Bagged, tmp_path: Path) -> None:
    """A bag that was copied to another medium, under a name of its own, is good."""
    shutil.copytree(bag.path, tmp_path / "evidence")

    assert verify_bag(tmp_path / "evidence", ca_pem=bag.site.ca_pem).ok


def test_other_authority(bag: Bagged, tmp_path: Path) -> None:
    """A bag whose certificates are by another authority than the site's is F-BAG-008."""
    other = PkiFolder(tmp_path / "other")
    other.create_authority(ISSUED_AT)

    report = verify_bag(bag.path, ca_pem=other.ca.read_bytes())

    assert {found.code for found in report.findings} == {FindingCode.BAG_CERTIFICATE_WRONG}


def test_own_authority_proves_little(bag: Bagged) -> None:
    """Without the site's authority the bag's own is taken, and the report says so."""
    report = verify_bag(bag.path, ca_pem=None)

    assert report.ok
    assert not report.anchored


def test_certificate_of_another_dock(bag: Bagged) -> None:
    """A manifest signed under another dock's certificate is F-BAG-008."""
    other = bag.site.manifest.dock.replace("01", "02")
    bag.site.pki.issue_dock(type(DOCK)(other), ISSUED_AT)
    folder = bag.site.pki.directory / other
    bag.write("bayward/dock-signing.pem", (folder / "signing.pem").read_bytes())

    sign_again(bag, bag.site.manifest, folder / "signing.key")

    assert bag.codes() == [FindingCode.BAG_CERTIFICATE_WRONG]


def test_closed_before_its_certificate(tmp_path: Path) -> None:
    """A bag that was closed when the dock's certificate did not hold yet is F-BAG-008."""
    [bag, _] = bags_of(tmp_path, closed_at=ISSUED_AT.replace(year=2015))

    assert bag.codes() == [FindingCode.BAG_CERTIFICATE_WRONG]


def test_closed_at_no_moment(bag: Bagged) -> None:
    """Without the moment when the bag was closed the certificate proves nothing: F-BAG-008."""
    bag.replace("bag-info.txt", b"Closed-At: 2026", b"Closed-At: then, 2026")
    bag.seal()

    assert bag.codes() == [FindingCode.BAG_CERTIFICATE_WRONG]


def test_dock_with_a_dead_clock(tmp_path: Path) -> None:
    """A dock that believes it is 1970 signs good manifests: the archive knows when they came."""
    for bag in bags_of(tmp_path, sealed_at=datetime(1970, 1, 1, 0, 5, tzinfo=UTC)):
        assert bag.codes() == []


@pytest.mark.parametrize(
    "path",
    [
        "../../../secret",
        "/etc/passwd",
        "data/../../secret",
        "data//x",
        "data/./x",
        "~/x",
        "data\\x",
    ],
)
@pytest.mark.parametrize("manifest", ["manifest-sha256.txt", "tagmanifest-sha256.txt"])
def test_path_outside_the_bag(bag: Bagged, path: str, manifest: str) -> None:
    """A path that leads out of the bag is F-BAG-009 and is not followed."""
    bag.write(manifest, bag.read(manifest) + f"{'0' * 64}  {path}\n".encode())

    assert FindingCode.BAG_UNSAFE_PATH in bag.codes()


def test_link_to_a_clip(bag: Bagged, tmp_path: Path) -> None:
    """A link in the place of a clip is F-BAG-009, though its target has the right bytes."""
    clip = bag.path / "data" / CLIP
    clip.rename(tmp_path / "clip")
    clip.symlink_to(tmp_path / "clip")

    assert bag.codes() == [FindingCode.BAG_UNSAFE_PATH, FindingCode.BAG_FILE_MISSING]


def test_linked_folder(bag: Bagged, tmp_path: Path) -> None:
    """A link in the place of data/ is not followed: all of its files are missing."""
    (bag.path / "data").rename(tmp_path / "data")
    (bag.path / "data").symlink_to(tmp_path / "data")

    assert set(bag.codes()) == {FindingCode.BAG_UNSAFE_PATH, FindingCode.BAG_FILE_MISSING}


def test_pipe_in_the_bag(bag: Bagged) -> None:
    """A pipe is reported, and nobody waits for its writer."""
    clip = bag.path / "data" / CLIP
    clip.unlink()
    os.mkfifo(clip)

    assert bag.codes() == [FindingCode.BAG_UNSAFE_PATH, FindingCode.BAG_FILE_MISSING]


def test_name_that_harms_a_terminal(bag: Bagged) -> None:
    """A file name with control characters is shown, not sent."""
    bag.write("data/\x1b[2J\udcff", b"?")

    [found] = bag.report().findings

    assert found.path == "data/\\x1b[2J\\udcff"


def test_too_many_files(bag: Bagged) -> None:
    """A bag with more files than any bag can have tires nobody out."""
    for number in range(10_001):
        (bag.path / "data" / f"{number}").touch()

    found = bag.report().findings

    assert found[0].code is FindingCode.BAG_FILE_EXTRA
    assert len(found) < 10_100


def test_empty_folder(tmp_path: Path) -> None:
    """A bag of which nothing is left misses every file that a bag must have."""
    report = verify_bag(tmp_path, ca_pem=None)

    assert {found.code for found in report.findings} == {FindingCode.BAG_FILE_MISSING}


def test_progress_reaches_the_end(bag: Bagged) -> None:
    """Progress counts every payload byte, and no other."""
    seen: list[Progress] = []
    verify_bag(bag.path, ca_pem=None, on_progress=seen.append)

    assert [one.done_bytes for one in seen] == sorted(one.done_bytes for one in seen)
    assert seen[-1].done_bytes == seen[-1].total_bytes == bag.report().size_bytes


def failing_disk(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Let every reading of the first clip fail."""
    readv = os.readv

    def fail(fd: int, buffers: list[memoryview]) -> int:
        if Path(f"/proc/self/fd/{fd}").readlink().name == CLIP:
            raise OSError(code, os.strerror(code))
        return readv(fd, buffers)

    monkeypatch.setattr(os, "readv", fail)


def test_lost_sector(bag: Bagged, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip whose bytes the disk has lost is F-BAG-001, and the other files are still judged."""
    (bag.path / "notes.txt").touch()
    failing_disk(monkeypatch, errno.EIO)

    assert bag.codes() == [FindingCode.BAG_FILE_EXTRA, FindingCode.BAG_FILE_MISSING]


def test_file_that_may_not_be_read(bag: Bagged, monkeypatch: pytest.MonkeyPatch) -> None:
    """A right that the reader lacks says nothing about the bag: it is an error, and no verdict."""
    failing_disk(monkeypatch, errno.EACCES)

    with pytest.raises(PermissionError):
        bag.report()


@pytest.mark.parametrize("name", ["bayward/ca.pem", "bayward/dock-signing.pem"])
def test_certificate_with_a_negative_serial_number(bag: Bagged, name: str) -> None:
    """It is a certificate that nobody issued, and nothing is raised about it."""
    der = bytearray(ssl.PEM_cert_to_DER_cert(bag.read(name).decode()))
    serial = x509.load_der_x509_certificate(bytes(der)).serial_number
    # As DER has it: with a sign bit.
    der[der.index(serial.to_bytes(serial.bit_length() // 8 + 1))] |= 0x80
    bag.write(name, ssl.DER_cert_to_PEM_cert(bytes(der)).encode())
    bag.seal()

    assert FindingCode.BAG_CERTIFICATE_WRONG in bag.codes()
