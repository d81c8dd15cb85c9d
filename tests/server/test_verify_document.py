"""docs/verify.md, done by the letter: its commands pass on good bags and fail on bad ones."""

import hashlib
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from protocol.envelope import sign_statement, take_apart
from protocol.versions import Statement
from runtime.keys import load_signing_key
from server_agent.pki.folder import PkiFolder
from tests.simulators.bag_site import DOCK, ISSUED_AT
from tests.simulators.bagged import Bagged, bags_of

PAGE: Final = Path(__file__).resolve().parents[2] / "docs/verify.md"
BLOCK: Final = re.compile(r"^## (.+?)$|^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Not about bags: tests/server/test_attestations_command.py follows them.
ATTESTATIONS: Final = "隔离证明"
CLIP: Final = "012345_0000017_20261121083012_0001.MP4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The commands below one heading, and the number that the heading begins with."""

    number: str
    commands: str


def steps() -> list[Step]:
    found: list[Step] = []
    heading = ""
    for match in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        if match[1] is not None:
            heading = match[1]
        elif not heading.startswith(ATTESTATIONS):
            found.append(Step(number=heading.partition(".")[0], commands=match[2]))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What a person sees who does the steps until one fails; None if none did."""

    failed_at: str | None
    screen: str


def follow(bag: Path, ca: Path, work: Path) -> Followed:
    """Do what the page says, in one shell, with the two lines that it says to change changed."""
    script = ["set -e -o pipefail"]
    for step in steps():
        commands = re.sub(r"^BAG=.*$", f"BAG={bag}", step.commands, flags=re.MULTILINE)
        commands = re.sub(r"^CA=.*$", f"CA={ca}", commands, flags=re.MULTILINE)
        script += [f"echo '@ {step.number}'", commands]
    work.mkdir(exist_ok=True)
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        env={"PATH": os.environ["PATH"], "TMPDIR": str(work), "LANG": "C.UTF-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    reached = re.findall(r"^@ (.*)$", done.stdout, flags=re.MULTILINE)
    return Followed(failed_at=reached[-1] if done.returncode else None, screen=done.stdout)


@pytest.fixture
def bag(tmp_path: Path) -> Bagged:
    return next(bags_of(tmp_path))


def done_with(bag: Bagged, tmp_path: Path) -> str | None:
    return follow(bag.path, bag.site.pki.ca, tmp_path / "work").failed_at


def test_page_has_every_step() -> None:
    """The page has seven numbered steps with commands."""
    numbers = {step.number for step in steps()}

    assert set("1234567") <= numbers


@pytest.mark.parametrize("with_sm3", [True, False])
def test_good_bags_pass(tmp_path: Path, with_sm3: bool) -> None:  # noqa: FBT001 -- a table's column
    """Every command succeeds on a recording's bag and on a docking's, with and without SM3."""
    bags = list(bags_of(tmp_path, with_sm3=with_sm3))

    for bag in bags:
        followed = follow(bag.path, bag.site.pki.ca, tmp_path / "work")

        assert followed.failed_at is None, followed.screen
        assert "Signature Verified Successfully" in followed.screen
        assert "subject=CN=dock-01" in followed.screen
        assert ": FAILED" not in followed.screen
    assert len(bags) == len(["recording", "other files"])


def test_each_file_is_shown_as_signed(bag: Bagged, tmp_path: Path) -> None:
    """The manifest's own words on each file are shown."""
    screen = follow(bag.path, bag.site.pki.ca, tmp_path / "work").screen

    for clip in bag.site.manifest.recordings[0].clips:
        assert f'"digests":{{"sha256":"{clip.file.digests.sha256}"' in screen


def test_closed_bag_is_enough(bag: Bagged, tmp_path: Path) -> None:
    """Nothing is written into the bag, nor needed from elsewhere than the bag and the authority."""
    before = sorted(bag.path.rglob("*"))
    for folder in (bag.path, *filter(Path.is_dir, before)):
        folder.chmod(0o555)

    assert done_with(bag, tmp_path) is None
    assert sorted(bag.path.rglob("*")) == before


def test_changed_clip(bag: Bagged, tmp_path: Path) -> None:
    """A changed clip fails at step 1."""
    bag.write(f"data/{CLIP}", bag.read(f"data/{CLIP}")[:-1] + b"?")

    assert done_with(bag, tmp_path) == "1"


def test_missing_clip(bag: Bagged, tmp_path: Path) -> None:
    """A missing clip fails at step 1."""
    (bag.path / "data" / CLIP).unlink()

    assert done_with(bag, tmp_path) == "1"


def test_changed_label(bag: Bagged, tmp_path: Path) -> None:
    """A changed bag-info.txt fails at step 1."""
    bag.replace("bag-info.txt", b"R-0001", b"R-0002")

    assert done_with(bag, tmp_path) == "1"


@pytest.mark.parametrize("name", ["data/added.MP4", "bayward/added.txt"])
def test_added_file(bag: Bagged, tmp_path: Path, name: str) -> None:
    """A file that was put in fails at step 2."""
    bag.write(name, b"?")

    assert done_with(bag, tmp_path) == "2"


def test_linked_clip(bag: Bagged, tmp_path: Path) -> None:
    """A link to the right bytes elsewhere fails at step 2."""
    clip = bag.path / "data" / CLIP
    clip.rename(tmp_path / "clip")
    clip.symlink_to(tmp_path / "clip")

    assert done_with(bag, tmp_path) == "2"


def test_other_authority(bag: Bagged, tmp_path: Path) -> None:
    """A bag of another authority fails at step 3, though it brings that authority along."""
    other = PkiFolder(tmp_path / "other")
    other.create_authority(ISSUED_AT)

    assert follow(bag.path, other.ca, tmp_path / "work").failed_at == "3"


def test_certificate_of_another_dock(bag: Bagged, tmp_path: Path) -> None:
    """A genuine certificate of another dock fails at step 3."""
    bag.site.pki.issue_dock(type(DOCK)("dock-02"), ISSUED_AT)
    other = bag.site.pki.directory / "dock-02/signing.pem"
    bag.write("bayward/dock-signing.pem", other.read_bytes())
    bag.seal()

    assert done_with(bag, tmp_path) == "3"


def test_certificate_that_did_not_hold(tmp_path: Path) -> None:
    """A bag that was closed years before its dock's certificate fails at step 3."""
    bag = next(bags_of(tmp_path, closed_at=ISSUED_AT.replace(year=2015)))

    assert done_with(bag, tmp_path) == "3"


def test_dock_with_a_dead_clock(tmp_path: Path) -> None:
    """A manifest that its dock dates to 1970 passes: the archive's time decides."""
    bag = next(bags_of(tmp_path, sealed_at=ISSUED_AT.replace(year=1970)))

    assert done_with(bag, tmp_path) is None


@pytest.mark.parametrize("at", [5, 40])
def test_wrong_signature(bag: Bagged, tmp_path: Path, at: int) -> None:
    """A signature with one other bit fails at step 4, though every list was made right."""
    signature = bytearray(bag.read("bayward/dock-manifest.sig"))
    signature[at] ^= 1
    bag.write("bayward/dock-manifest.sig", bytes(signature))
    bag.seal()

    assert done_with(bag, tmp_path) == "4"


def test_changed_manifest(bag: Bagged, tmp_path: Path) -> None:
    """A manifest with one other figure fails at step 4, though every list was made right."""
    bag.replace("bayward/dock-manifest.json", b'"bay":1', b'"bay":2')
    bag.seal()

    assert done_with(bag, tmp_path) == "4"


def test_other_envelope(bag: Bagged, tmp_path: Path) -> None:
    """An envelope that holds another manifest than the one beside it fails at step 5."""
    key = load_signing_key(bag.site.pki.directory / DOCK / "signing.key")
    other = next(bags_of(tmp_path / "other", label="2"))
    bag.write(
        "bayward/dock-manifest.dsse.json",
        sign_statement(other.site.manifest, Statement.MANIFEST, key),
    )
    bag.seal()

    assert done_with(bag, tmp_path) == "5"


def test_clip_replaced_everywhere(bag: Bagged, tmp_path: Path) -> None:
    """A clip that was replaced, with every list made right, fails at step 6."""
    was = hashlib.sha256(bag.read(f"data/{CLIP}")).hexdigest().encode()
    bag.write(f"data/{CLIP}", b"another story")
    now = hashlib.sha256(b"another story").hexdigest().encode()
    bag.replace("manifest-sha256.txt", was, now)
    bag.seal()

    assert done_with(bag, tmp_path) == "6"


def test_clip_removed_everywhere(bag: Bagged, tmp_path: Path) -> None:
    """A clip that was taken out, with every list made right, fails at step 6."""
    (bag.path / "data" / CLIP).unlink()
    lines = bag.read("manifest-sha256.txt").splitlines(keepends=True)
    kept = [line for line in lines if CLIP.encode() not in line]
    bag.write("manifest-sha256.txt", b"".join(kept))
    bag.seal()

    assert len(kept) < len(lines)
    assert done_with(bag, tmp_path) == "6"


def test_clips_of_another_recording(tmp_path: Path) -> None:
    """Another dock's genuine statement over a bag's clips does not make them its own."""
    bag = next(bags_of(tmp_path / "1"))
    other = next(bags_of(tmp_path / "2", label="2", clips={b"DCIM/other.MP4": b"other"}))
    sealed = take_apart(other.site.envelope)
    bag.write("bayward/dock-manifest.dsse.json", other.site.envelope)
    bag.write("bayward/dock-manifest.json", sealed.payload)
    bag.write("bayward/dock-manifest.sig", sealed.signature)
    bag.write("bayward/dock-signing.pem", other.read("bayward/dock-signing.pem"))
    bag.seal()

    assert follow(bag.path, other.site.pki.ca, tmp_path / "work").failed_at == "6"


def test_changed_sm3(bag: Bagged, tmp_path: Path) -> None:
    """A wrong SM3 digest fails at step 7."""
    lines = bag.read("manifest-sm3.txt").splitlines(keepends=True)
    bag.write("manifest-sm3.txt", b"0" * 64 + lines[0][64:] + b"".join(lines[1:]))
    bag.seal()

    assert done_with(bag, tmp_path) == "7"
