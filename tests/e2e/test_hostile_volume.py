"""A hostile volume, from the bay to the archive and onto the console's pages, by real programs."""

import asyncio
import base64
import hashlib
import json
import os
import queue
import re
import sqlite3
import stat
import time
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path

import aiohttp
import pytest

from demo.check import find_bags
from demo.docking import DirectoryDock
from demo.hostile import HostileVolume, Treatment, build_hostile_volume
from demo.site import Registered, Site, SiteOptions
from demo.watching import Watching
from tests.e2e.archive_reading import refuse_bad_bags

pytestmark = pytest.mark.processes

PATIENCE_S = 240
RECORDER = Registered(
    recorder_id="R-0001",
    make="DSJ",
    model="DSJ-A8",
    serial="0000017",
    officer="012345",
    officer_name="某人",
)
FORM_TOKEN = re.compile(r'name="form_token" value="([^"]+)"')
# What NTFS, exFAT, ext4 and a BagIt manifest all keep as it is.
FORBIDDEN = re.compile(r'[<>:"/\\|?*%\x00-\x1f\x7f]|^[ .~-]|[ .]$')
DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9]) *(\.|$)", re.IGNORECASE)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "site", [RECORDER], SiteOptions(bays=1))
    site.prepare()
    try:
        yield site
    finally:
        site.stop()


def wait_for_receipts(site: Site) -> None:
    """Return when the dock has a receipt for every manifest that it sealed, and one at least."""
    deadline = time.monotonic() + PATIENCE_S
    with Watching(site.control_socket) as watching:
        while not states(site.journal) or states(site.journal) != {"receipted"}:
            assert time.monotonic() < deadline, (states(site.journal), site.edge.last_lines())
            try:
                watching.next(timeout_s=1)
            except queue.Empty:
                continue


def states(journal: Path) -> set[str]:
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as opened:
        return {state for (state,) in opened.execute("SELECT state FROM manifest")}


def on_the_volume(hostile: HostileVolume) -> dict[bytes, str]:
    """Return the digest of each regular file that has bytes, by its exact path."""
    root = os.fsencode(hostile.folder)
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = folder + b"/" + name
            facts = os.lstat(path)
            if stat.S_ISREG(facts.st_mode) and facts.st_size:
                content = Path(os.fsdecode(path)).read_bytes()
                found[os.path.relpath(path, root)] = hashlib.sha256(content).hexdigest()
    return found


def in_the_archive(archive: Path) -> dict[bytes, str]:
    """Return the digest of each archived file by its original path, as the bags' own files say."""
    found = {}
    for bag in find_bags(archive):
        for file in json.loads((bag / "bayward" / "recording.json").read_bytes())["files"]:
            content = (bag / "data" / file["stored_as"]).read_bytes()
            original = base64.b64decode(file["original"]["path_bytes"])
            assert original not in found
            found[original] = hashlib.sha256(content).hexdigest()
    return found


def not_taken(archive: Path) -> set[bytes]:
    """Return the exact paths that the dock's signed manifests list as seen and not taken."""
    return {
        base64.b64decode(entry["name"]["raw_path"])
        if "raw_path" in entry["name"]
        else entry["name"]["path"].encode()
        for manifest in archive.rglob("bayward/dock-manifest.json")
        for entry in json.loads(manifest.read_bytes()).get("not_taken", ())
    }


class Markup(HTMLParser):
    """Collects what a browser would do, apart from showing text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.scripts: list[str | None] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "script":
            self.scripts.append(dict(attrs).get("src"))

    def handle_data(self, data: str) -> None:
        self.text += data


async def pages(site: Site) -> list[str]:
    """Log in as anybody would, and return the page of each recording."""
    password = site.add_console_user("zhangwei", "device_administrator")
    catalogue = site.root / "server" / "catalogue.sqlite"
    with closing(sqlite3.connect(f"file:{catalogue}?mode=ro", uri=True)) as opened:
        rows = opened.execute("SELECT recording_id FROM groups WHERE recording_id NOT NULL")
        recordings = [recording for (recording,) in rows]
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(site.console_url, cookie_jar=jar) as client:
        async with client.get("/login") as login:
            token = FORM_TOKEN.search(await login.text())
        assert token is not None
        fields = {"form_token": token[1], "name": "zhangwei", "password": password, "next": "/bays"}
        async with client.post(
            "/login", data=fields, headers={"Origin": site.console_url[:-1]}
        ) as entered:
            assert entered.status == 200
        found = []
        for path in ("/bays", "/recordings", *(f"/recordings/{one}" for one in recordings)):
            async with client.get(path) as answer:
                assert answer.status == 200
                found.append(await answer.text())
    return found


@pytest.mark.timeout(400)
def test_a_hostile_volume_is_archived_losslessly(site: Site, tmp_path: Path) -> None:
    """Every file is archived under a safe name, with its exact name, or told; nothing is obeyed."""
    hostile = build_hostile_volume(tmp_path / "recorder", sparse_bytes=1 << 20)
    wanted = on_the_volume(hostile)
    site.start_archive()
    site.start_console()
    site.start_dock()
    DirectoryDock().insert(hostile.folder, site.bay(1))

    wait_for_receipts(site)

    archived = in_the_archive(site.archive)
    assert archived.items() <= wanted.items()
    assert hostile.entries(Treatment.COPY) & wanted.keys() <= archived.keys()
    assert wanted.keys() - archived.keys() <= not_taken(site.archive)
    assert hostile.entries(Treatment.NEVER_OPEN) <= not_taken(site.archive)
    assert refuse_bad_bags(site.archive) > 0
    refuse_unsafe_names(site.archive)
    refuse_markup(asyncio.run(pages(site)))


def refuse_unsafe_names(archive: Path) -> None:
    """Every name in the archive is one that any file system keeps, alone of its kind."""
    for folder, folders, files in os.walk(archive):
        names = [*folders, *files]
        for name in names:
            assert FORBIDDEN.search(name) is None or name == ".incoming", name
            assert DEVICE.match(name) is None, name
            assert name.isprintable()
            assert len(name.encode()) <= 200
            assert unicodedata.is_normalized("NFC", name)
        assert len({name.casefold() for name in names}) == len(names), folder


def refuse_markup(found: list[str]) -> None:
    """No name has become a tag, an attribute or a script; all have stayed text."""
    shown = ""
    for page in found:
        markup = Markup()
        markup.feed(page)
        assert not markup.tags & {"img", "iframe", "object", "embed"}
        assert not {name for name in markup.attributes if name.startswith("on")}
        assert all(source is not None and source.startswith("/") for source in markup.scripts)
        shown += markup.text
    assert "<img src=x onerror=alert(1)>.MP4" in shown
    assert "{{7*7}}${7*7}.MP4" in shown
    assert "'; DROP TABLE file;--.MP4" in shown
