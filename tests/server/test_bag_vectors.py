"""The committed bags, verified as they lie there: each is wrong in exactly its own way."""

from pathlib import Path

import pytest

from protocol.findings import FindingCode
from server_agent.adapters.bag_verifier import verify_path
from server_agent.archive.verification import BagReport
from tests.protocol.vectors import VECTORS, read_json

GOOD = VECTORS / "good" / "bag"
CA = VECTORS / "pki" / "ca.pem"
BAD = sorted(VECTORS.glob("F-BAG-*"))


def verified(bag: Path, authority: Path) -> BagReport:
    [report] = verify_path(bag, ca_pem=authority.read_bytes())
    assert report.is_bag
    return report


def test_nothing_is_found_against_the_good_bag() -> None:
    """The good bag is good, under the site's authority, and holds the one clip of manifest 1."""
    manifest = read_json(VECTORS / "good" / "manifest-1.payload.json")

    report = verified(GOOD, CA)

    assert report.findings == ()
    assert report.anchored
    assert report.manifest_id == manifest["manifest_id"]
    assert report.recording_id == manifest["recordings"][0]["recording_id"]
    assert (report.files, report.dock) == (1, "dock-01")


@pytest.mark.parametrize("folder", BAD, ids=lambda folder: folder.name)
def test_bag_has_its_finding(folder: Path) -> None:
    """Against each bad bag there is the one finding that its folder is named after."""
    case = read_json(folder / "case.json")

    report = verified(folder / case["bag"], folder / case["authority"])

    assert [found.code.value for found in report.findings] == [case["expect"]]
    assert case["expect"] == folder.name


def test_good_bag_under_another_authority() -> None:
    """Against another authority than the site's own, the good bag's certificates are wrong."""
    stranger = VECTORS / "F-BAG-008" / "bag" / "bayward" / "dock-signing.pem"

    report = verified(GOOD, stranger)

    assert {found.code for found in report.findings} == {FindingCode.BAG_CERTIFICATE_WRONG}
