"""The soak's checker finds whatever is broken in what a real site has archived."""

import random
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest

from demo.site import Site, SiteOptions
from soak.checker import Original, Places, check, find_bags
from soak.recorders import MIB, Habits, worn_recorders
from soak.station import Station, places_of

pytestmark = pytest.mark.processes

RECORDERS = 2
SEED = 3
PATIENCE_S = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    root: Path
    originals: list[Original]
    places: Places

    def moved(self, root: Path) -> "Archived":
        """Return the same with all paths in a copy below *root*."""
        shutil.copytree(self.root, root, symlinks=True, ignore=_sockets)
        for folder in (root, *root.rglob("*/")):
            folder.chmod(folder.stat().st_mode | stat.S_IRWXU)
        names = [field.name for field in fields(Places)]
        inside = {name: getattr(self.places, name).relative_to(self.root) for name in names}
        places = replace(self.places, **{name: root / path for name, path in inside.items()})
        return Archived(root=root, originals=list(self.originals), places=places)


def _sockets(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if stat.S_ISSOCK((Path(folder) / name).lstat().st_mode)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Archived:
    root = tmp_path_factory.mktemp("finished")
    habits = Habits(large_clip_bytes=MIB, is_odd=True)
    recorders = list(worn_recorders(root / "recorders", RECORDERS, seed=SEED, habits=habits))
    options = SiteOptions(bays=RECORDERS)
    site = Site(root / "site", [one.registered for one in recorders], options)
    site.prepare()
    station = Station(site, recorders, random.Random(SEED))
    try:
        site.start_archive()
        site.start_dock()
        station.finish(patience_s=PATIENCE_S)
    finally:
        site.stop()
    assert station.faults == []
    originals = [original for one in recorders for original in one.originals]
    return Archived(root=site.root, originals=originals, places=places_of(site))


@pytest.fixture
def archived(finished: Archived, tmp_path: Path) -> Archived:
    return finished.moved(tmp_path / "copy")


def test_nothing_is_found_where_all_is_well(archived: Archived) -> None:
    """Of a site that has archived everything nothing is told."""
    assert check(archived.originals, archived.places) == []


def lose_a_bag(archived: Archived) -> None:
    shutil.rmtree(find_bags(archived.places.archive)[0])


def change_a_byte(archived: Archived) -> None:
    payload = next((find_bags(archived.places.archive)[0] / "data").iterdir())
    payload.chmod(0o644)
    content = bytearray(payload.read_bytes())
    content[-1] ^= 1
    payload.write_bytes(content)


def add_a_bag(archived: Archived) -> None:
    bag = find_bags(archived.places.archive)[0]
    shutil.copytree(bag, bag.with_name("again"))


def film_what_was_never_docked(archived: Archived) -> None:
    archived.originals.append(replace(archived.originals[0], sha256="ab" * 32))


def call_a_file_otherwise(archived: Archived) -> None:
    archived.originals.append(replace(archived.originals[0], path=b"another name"))


def forget_a_file(archived: Archived) -> None:
    archived.originals.pop()


def forget_a_partial_copy(archived: Archived) -> None:
    (archived.places.staging / "partial" / "forgotten").write_bytes(b"x")


def forget_an_arrived_file(archived: Archived) -> None:
    (archived.places.archive / ".incoming" / "forgotten").write_bytes(b"x")


def run_sql(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database)) as opened, opened:
        assert opened.execute(statement).rowcount == 1


def lose_a_manifest_on_the_dock(archived: Archived) -> None:
    run_sql(archived.places.journal, "DELETE FROM manifest WHERE sequence = 1")


def lose_a_receipt(archived: Archived) -> None:
    run_sql(
        archived.places.journal,
        "UPDATE manifest SET receipt = NULL, state = 'admitted' WHERE sequence = 1",
    )


def sign_with_another_key(archived: Archived) -> None:
    shutil.copyfile(archived.places.archive_certificate, archived.places.dock_certificate)


def lose_a_manifest_in_the_archive(archived: Archived) -> None:
    run_sql(archived.places.catalogue, "DELETE FROM manifests WHERE sequence = 1")


def refuse_a_message(archived: Archived) -> None:
    run_sql(
        archived.places.catalogue,
        "INSERT INTO refused_messages (received_at, topic, sha256, code, detail, body, times) "
        "VALUES ('2026-11-25 00:00:00', 't', 'ab', 'F-ADM-003', 'no envelope', x'00', 1)",
    )


def fail_as_nobody_foresaw(archived: Archived) -> None:
    run_sql(
        archived.places.journal,
        "INSERT INTO alert VALUES ("
        """'a', CAST('{"code": "E-APP-701", "text": "a part failed"}' AS BLOB), 1)""",
    )


@pytest.mark.parametrize(
    "harm",
    [
        lose_a_bag,
        change_a_byte,
        add_a_bag,
        film_what_was_never_docked,
        call_a_file_otherwise,
        forget_a_file,
        forget_a_partial_copy,
        forget_an_arrived_file,
        lose_a_manifest_on_the_dock,
        lose_a_receipt,
        sign_with_another_key,
        lose_a_manifest_in_the_archive,
        refuse_a_message,
        fail_as_nobody_foresaw,
    ],
)
def test_harm_is_found(archived: Archived, harm: Callable[[Archived], None]) -> None:
    """Whatever was lost, changed, doubled, left behind or told is a fault."""
    harm(archived)

    assert check(archived.originals, archived.places) != []
