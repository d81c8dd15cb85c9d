"""What edge-mount does between two looks at a recorder, and who else may do something then."""

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_agent.adapters.bay_erasing import writable
from edge_agent.adapters.bay_mounts import Taken
from edge_agent.adapters.usb_tree import BlockDevice
from edge_agent.mounting.errors import NotReadOnlyError
from edge_agent.mounting.messages import Erased, Progress, Reply
from runtime.keys import load_signing_key
from tests.simulators.certificates import Authority
from tests.simulators.edge_mount import Before, running_edge_mount
from tests.simulators.erasing_site import (
    ALL_ERASED,
    CLIPS,
    EVERYTHING,
    NOTHING,
    SETTINGS,
    Site,
    card,
    is_read_only,
)
from tests.simulators.erasures import DOCKING, known, proof_file, registry_of
from tests.simulators.loop_disks import loop_disk, run
from tests.simulators.sealed_manifests import docking_id
from tests.simulators.sysfs import FakeSysfs

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount"),
]

# Where the volume of bay 1 is mounted to be erased.
INSIDE = "cd $EDGE_MOUNT_FOLDER/erasing/1/1"


@dataclass(kw_only=True)
class Recorder:
    """A card as a file, and as the kernel's disk."""

    image: Path
    disk: BlockDevice

    @property
    def device(self) -> str:
        return f"/dev/{self.disk.name}"

    def rewrite(self, *requests: str) -> str:
        """Return commands that change the card behind the kernel's back."""
        return "; ".join(f"debugfs -w -R '{one}' {self.image} 2>/dev/null" for one in requests)

    def reread(self) -> str:
        """Return a command after which the kernel remembers all that is on the card."""
        return f"dd if={self.device} of=/dev/null bs=1M status=none"


Meddle = Callable[[dict[str, str]], contextlib.AbstractContextManager[Site]]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    image = card(tmp_path, EVERYTHING)
    with loop_disk(image) as disk:
        yield Recorder(image=image, disk=disk)


@pytest.fixture
def meddled(authority: Authority, recorder: Recorder) -> Meddle:
    """Run a site where somebody does something at a moment, with the recorder docked."""
    pair = authority.issue_signing("archive")

    @contextlib.contextmanager
    def running(meddling: dict[str, str]) -> Iterator[Site]:
        before = Before(meddling=meddling)
        with running_edge_mount("--may-erase", certificate=pair.certificate, before=before) as one:
            one.plug("1-1", recorder.disk)
            assert one.client(1).mount().volumes
            yield Site(mounting=one, archive_key=load_signing_key(pair.key))
            one.client(1).detach()

    return running


@pytest.fixture
def note(tmp_path: Path) -> Path:
    """Where somebody writes down what was seen."""
    return tmp_path / "note"


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, bytes], str]:
    """Return a request of debugfs's that puts a file on a card."""

    def request(path: str, content: bytes) -> str:
        source = tmp_path / "put"
        source.write_bytes(content)
        return f"write {source} {path}"

    return request


Put = Callable[[str, bytes], str]


@pytest.mark.parametrize(
    "moment", ["bay_erasing._forget:1", "bay_erasing._forget:2", "bay_erasing.set_writable:1"]
)
def test_what_is_new_on_the_card_itself_stops_it(
    meddled: Meddle, recorder: Recorder, put: Put, moment: str
) -> None:
    """However well the kernel remembers what was there before, the card is asked once more."""
    change = recorder.rewrite(put("DCIM/3.MP4", b"recorded after it was docked"))
    with meddled({moment: f"{recorder.reread()}; {change}"}) as site:
        reply = site.erase(site.receipt(CLIPS, SETTINGS))

        assert (reply.code, reply.erased) == ("E-MNT-110", NOTHING)
        assert "3.MP4" in reply.text
        assert EVERYTHING.items() < site.content().items()


def test_a_file_that_became_another_archived_one_was_not_read(
    meddled: Meddle, recorder: Recorder, put: Put
) -> None:
    """What goes is what was read: also where the archive holds both contents."""
    change = recorder.rewrite("rm DCIM/1.MP4", put("DCIM/1.MP4", b"longer than it was" * 100_000))
    longer = b"longer than it was" * 100_000
    with meddled({"bay_erasing.set_writable:1": change}) as site:
        earlier = site.receipt({b"OLD.MP4": longer}, number=2, docking_id=docking_id(1))
        both = site.receipt(CLIPS, SETTINGS, known=(known(b"DCIM/1.MP4", longer, number=2),))
        reply = site.erase(both, earlier)

        assert (reply.code, reply.erased) == ("E-MNT-110", NOTHING)
        assert "a moment ago" in reply.text
        assert site.content().keys() == EVERYTHING.keys()


def test_what_is_still_there_is_not_called_erased(
    meddled: Meddle, recorder: Recorder, put: Put
) -> None:
    """A card that forgets what it was told to do is found out, and not believed."""
    back = recorder.rewrite(put("DCIM/1.MP4", CLIPS[b"DCIM/1.MP4"]))
    with meddled({"bay_erasing._forget:3": f"{recorder.reread()}; {back}"}) as site:
        reply = site.erase(site.receipt(CLIPS, SETTINGS))

        assert (reply.code, reply.erased) == ("E-MNT-112", ALL_ERASED)
        assert "still there" in reply.text


def test_a_card_that_fails_at_the_end_is_told(meddled: Meddle, recorder: Recorder) -> None:
    """That all is on it is asked for while it can still be said."""
    cut = f"truncate -s 64K {recorder.image}; losetup --set-capacity {recorder.device}"
    with meddled({"bay_erasing.sync_file_system:1": cut}) as site:
        reply = site.erase(site.receipt(CLIPS, SETTINGS))

        assert reply.code == "E-MNT-112"
        assert "not on the disk" in reply.text


@pytest.mark.parametrize(
    ("kept", "erased"),
    [("1.MP4", NOTHING), ("2.MP4", Erased(files=1, size_bytes=len(CLIPS[b"DCIM/1.MP4"])))],
)
def test_a_file_that_does_not_go_ends_it(
    meddled: Meddle, recorder: Recorder, kept: str, erased: Erased
) -> None:
    """Nothing more is erased, and what is gone is told."""
    immutable = recorder.rewrite(f"set_inode_field DCIM/{kept} flags 0x80010")
    with meddled({"bay_erasing._forget:1": immutable}) as site:
        reply = site.erase(site.receipt(CLIPS, SETTINGS))
        left = site.content().keys()

    assert (reply.code, reply.erased) == ("E-MNT-112", erased)
    assert kept in reply.text
    assert len(left) == len(EVERYTHING) - erased.files


@pytest.mark.parametrize(
    "change",
    [
        "cp DCIM/1.MP4 new; mv new DCIM/1.MP4",
        "echo more >>DCIM/1.MP4",
        "mv DCIM/1.MP4 1.MP4; ln -s ../1.MP4 DCIM/1.MP4",
    ],
)
def test_another_file_under_its_name_does_not_go(meddled: Meddle, change: str) -> None:
    """Made after everything was compared: of the same size, longer, or a link."""
    with meddled({"bay_erasing._remove:1": f"{INSIDE}; {change}"}) as site:
        reply = site.erase(site.receipt(CLIPS, SETTINGS))

        assert (reply.code, reply.erased) == ("E-MNT-110", NOTHING)
        assert "is another file" in reply.text
        assert len(site.content()) >= len(EVERYTHING)


@pytest.mark.parametrize("clip", [b"DCIM/1.MP4", b"DCIM/100MEDIA/1.MP4"])
def test_a_link_in_a_folders_place_is_not_followed(
    authority: Authority, tmp_path: Path, clip: bytes
) -> None:
    """Made after everything was compared: nothing outside of the recorder is reached."""
    outside = tmp_path / "outside/100MEDIA"
    outside.mkdir(parents=True)
    files = {clip: b"what was recorded"}
    for folder in (outside, outside.parent):
        (folder / "1.MP4").write_bytes(files[clip])
    commands = f"{INSIDE}; mv DCIM moved; ln -s {outside.parent} DCIM"
    before = Before(meddling={"bay_erasing.open_below:1": commands})
    pair = authority.issue_signing("archive")
    with (
        loop_disk(card(tmp_path, files)) as disk,
        running_edge_mount("--may-erase", certificate=pair.certificate, before=before) as mounting,
    ):
        mounting.plug("1-1", disk)
        site = Site(mounting=mounting, archive_key=load_signing_key(pair.key))
        reply = site.erase(site.receipt(files))
        mounting.client(1).detach()

    assert (reply.code, reply.erased) == ("E-MNT-112", NOTHING)
    assert "directory" in reply.text
    assert (outside / "1.MP4").exists()
    assert (outside.parent / "1.MP4").exists()


def test_a_bay_waits_while_anothers_proof_is_read(meddled: Meddle, tmp_path: Path) -> None:
    """It says so meanwhile, and goes on when it is its turn."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    seen: list[Progress] = []
    with (
        meddled({"bay_erasing.read_proof:1": f"cat {fifo} >/dev/null"}) as site,
        ThreadPoolExecutor() as executor,
    ):
        receipt = site.receipt(CLIPS, SETTINGS)
        first = executor.submit(site.erase, receipt)
        with fifo.open("w") as held:

            def go_on(progress: Progress) -> bool:
                seen.append(progress)
                held.close()
                return True

            with proof_file(receipt, registry=registry_of(key=site.archive_key)) as fd:
                reply = site.mounting.client(2).erase(DOCKING, fd, go_on)

        assert first.result(timeout=60) == Reply(erased=ALL_ERASED)

    assert seen[0] == Progress(files_done=0, files_total=0, bytes_done=0, bytes_total=0)
    assert reply.code == "E-MNT-104"


def test_who_may_do_what_at_each_step(meddled: Meddle, recorder: Recorder, note: Path) -> None:
    """Read-only but for the moment of erasing; nothing on it acts, and nobody else gets at it."""
    look = f"grep -o '/erasing/1/1 .*' /proc/self/mounts >>{note}"
    device = f"blockdev --getro {recorder.device} >>{note}"
    steps = ("_read_anew", "_remove_all", "_look_after")
    with meddled({f"bay_erasing.{step}:1": f"{look}; {device}" for step in steps}) as site:
        assert site.erase(site.receipt(CLIPS, SETTINGS)) == Reply(erased=ALL_ERASED)

    lines = note.read_text().splitlines()
    read, write, look_after = (set(line.split()[2].split(",")) for line in lines[::2])
    assert lines[1::2] == ["1", "0", "1"]
    assert {"ro", "nosuid", "nodev", "noexec", "noatime", "norecovery"} <= read
    assert {"ro", "nosuid", "nodev", "noexec", "noatime", "norecovery"} <= look_after
    assert {"rw", "nosuid", "nodev", "noexec", "noatime", "errors=remount-ro"} <= write


def test_its_folders_are_its_own(meddled: Meddle, note: Path) -> None:
    """Others may look into what is mounted to be read, and not into what is mounted to be erased.

    The folders are seen before anything is mounted over them.
    """
    bays, erasing = (
        f"cd $EDGE_MOUNT_FOLDER; stat -c '%a %U %n' {folder} {folder}/1/1 >>{note}"
        for folder in ("bays", "erasing")
    )
    with meddled({"bay_mounts.mount:1": bays, "bay_erasing.mount:1": erasing}) as site:
        site.erase(site.receipt(CLIPS, SETTINGS))

    assert note.read_text().splitlines() == [
        "755 root bays",
        "755 root bays/1/1",
        "700 root erasing",
        "700 root erasing/1/1",
    ]


def test_what_an_earlier_run_left_is_taken_away(tmp_path: Path, recorder: Recorder) -> None:
    """Started anew it has nobody write to a recorder, before anybody asks it for anything."""
    second = tmp_path / "second"
    second.mkdir()
    with loop_disk(card(second, EVERYTHING)) as other:

        def plug(sysfs: FakeSysfs) -> None:
            sysfs.plug("1-1")
            for disk in (recorder.disk, other):
                sysfs.add_disk("1-1", disk)

        shell = (
            "cd $EDGE_MOUNT_FOLDER; mkdir -m 777 erasing; mkdir -p erasing/1/1 bays/1/1"
            f"; mount {recorder.device} erasing/1/1; mount /dev/{other.name} bays/1/1"
        )
        with running_edge_mount(before=Before(plug=plug, shell=shell)) as mounting:
            erasing = mounting.seen(mounting.bays.with_name("erasing"))
            assert not mounting.mounts()
            assert not mounting.writable_mounts()
            assert is_read_only(recorder.disk)
            assert is_read_only(other)
            assert erasing.stat().st_mode & 0o777 == 0o700


def test_when_it_ends_nobody_can_write(recorder: Recorder) -> None:
    """Also to a recorder that nobody had asked for."""
    with running_edge_mount() as mounting:
        mounting.plug("1-1", recorder.disk)
        # Another test's disk may have had this number, and left it so.
        run("blockdev", "--setrw", f"/dev/{recorder.disk.name}")

    assert is_read_only(recorder.disk)


def test_a_disk_that_fails_leaves_no_other_one_writable(recorder: Recorder, tmp_path: Path) -> None:
    """Of two that were opened to be erased, the first one does not become read-only again."""
    with (
        loop_disk(card(tmp_path / "other", EVERYTHING)) as disk,
        Path(recorder.device).open("rb") as first,
        Path(f"/dev/{disk.name}").open("rb") as second,
        Path(os.devnull).open("rb") as nothing,
    ):
        taken = Taken(volumes=(), device_fds=(first.fileno(), second.fileno()))
        with pytest.raises(NotReadOnlyError), writable(taken):
            os.dup2(nothing.fileno(), first.fileno())

        assert is_read_only(disk)
