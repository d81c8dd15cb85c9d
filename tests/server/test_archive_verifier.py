"""Many bags at once: a day's, or a whole archive's."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from server_agent.adapters.bag_verifier import verify_path
from server_agent.archive.verification import Tally, Verdict
from tests.simulators.bag_site import BagSite, build_site


def tally(path: Path, site: BagSite) -> Tally:
    total = Tally()
    for report in verify_path(path, ca_pem=site.ca_pem):
        total.add(report)
    return total


@pytest.fixture
def archived(tmp_path: Path) -> BagSite:
    site = build_site(tmp_path / "pki")
    site.archive(tmp_path / "archive")
    return site


@pytest.mark.parametrize("below", ["", "2026", "2026/11/21", "2026/11/21/_unfiled"])
def test_whole_archive_or_a_day(archived: BagSite, tmp_path: Path, below: str) -> None:
    """Every bag below a folder is verified, be it a day's or the whole archive's."""
    total = tally(tmp_path / "archive" / below, archived)

    assert total.verdict is Verdict.VERIFIED
    assert total.bags == (1 if below.endswith("_unfiled") else 2)


def test_nothing_found_is_no_success(archived: BagSite, tmp_path: Path) -> None:
    """An empty archive, or a wrong folder, is not called verified."""
    (tmp_path / "empty").mkdir()

    assert tally(tmp_path / "empty", archived).verdict is Verdict.NOTHING_FOUND


def test_folder_that_is_not_there(archived: BagSite, tmp_path: Path) -> None:
    """A folder that is not there is an error, and no verdict."""
    with pytest.raises(FileNotFoundError):
        tally(tmp_path / "nowhere", archived)


def test_bags_being_filled_are_left_out(archived: BagSite, tmp_path: Path) -> None:
    """What is still arriving is not judged."""
    request = build_site(tmp_path / "pki", label="2").requests()[0]
    incoming = tmp_path / "archive/.incoming" / request.manifest_id / request.group / "data"
    incoming.mkdir(parents=True)
    (incoming / "half").touch()

    assert tally(tmp_path / "archive", archived).bags == 2


def test_hollowed_bag_is_found(archived: BagSite, tmp_path: Path) -> None:
    """A bag whose files are all gone is still missed, as long as its folder is there."""
    [bag] = (tmp_path / "archive/2026/11/21/_unfiled").iterdir()
    shutil.rmtree(bag)
    bag.mkdir()

    total = tally(tmp_path / "archive", archived)

    assert (total.verdict, total.bags, total.bad_bags) == (Verdict.FAILED, 2, 1)


@pytest.mark.parametrize(
    "make", [Path.touch, lambda path: path.symlink_to("/")], ids=["file", "link"]
)
def test_stray_in_the_archive(
    archived: BagSite, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """Something between the bags is reported, and a link is not followed."""
    make(tmp_path / "archive/2026/11/stray")

    total = tally(tmp_path / "archive", archived)

    assert (total.verdict, total.bags, total.strays) == (Verdict.FAILED, 2, 1)
