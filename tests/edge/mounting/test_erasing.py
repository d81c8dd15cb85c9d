"""Erasing, by the program edge-mount itself and on real disks."""

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from demo.programs import DemoError
from edge_agent.adapters.usb_tree import BlockDevice
from edge_agent.mounting.errors import MountServiceError
from edge_agent.mounting.messages import Erased, Progress, Reply
from protocol.registry import ErasePolicy, Erasing, ModelEraseRule
from runtime.keys import load_signing_key
from tests.simulators.certificates import Authority
from tests.simulators.edge_mount import running_edge_mount
from tests.simulators.erasing_site import (
    ALL_ERASED,
    CLIPS,
    EVERYTHING,
    NOTHING,
    SETTINGS,
    Site,
    card,
    content_of,
    is_read_only,
)
from tests.simulators.erasures import (
    DOCKING,
    known,
    manifest_of,
    proof_file,
    registry_of,
    with_receipt,
)
from tests.simulators.loop_disks import loop_disk, run
from tests.simulators.sealed_manifests import DOCK_KEY, RECORDER, docking_id

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount"),
]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def site(authority: Authority) -> Iterator[Site]:
    pair = authority.issue_signing("archive")
    with running_edge_mount("--may-erase", certificate=pair.certificate) as mounting:
        yield Site(mounting=mounting, archive_key=load_signing_key(pair.key))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[BlockDevice]:
    with loop_disk(card(tmp_path, EVERYTHING)) as found:
        yield found


@pytest.fixture
def docked(site: Site, disk: BlockDevice) -> Site:
    site.mounting.plug("1-1", disk)
    assert site.mounting.client(1).mount().volumes
    return site


def test_archived_footage_is_erased(docked: Site, disk: BlockDevice) -> None:
    """What is no footage stays, and afterwards the recorder is read-only and mounted as before."""
    seen: list[Progress] = []

    reply = docked.erase(docked.receipt(CLIPS, SETTINGS), seen=seen)

    assert reply == Reply(erased=ALL_ERASED)
    assert docked.content() == SETTINGS
    assert is_read_only(disk)
    [[_, _, options]] = docked.mounting.mounts()
    assert {"ro", "nosuid", "nodev", "noexec", "norecovery"} <= set(options.split(","))
    assert not docked.mounting.writable_mounts()
    assert seen[-1] == Progress(
        files_done=2, files_total=2, bytes_done=seen[0].bytes_total, bytes_total=1_100_000
    )
    run("fsck.ext4", "-f", "-n", f"/dev/{disk.name}")


def test_what_came_since_stops_it(site: Site, tmp_path: Path) -> None:
    """A file that no receipt is about: nothing is touched."""
    files = {**EVERYTHING, b"DCIM/3.MP4": b"recorded after it was docked"}
    with loop_disk(card(tmp_path, files)) as disk:
        site.mounting.plug("1-1", disk)
        reply = site.erase(site.receipt(CLIPS, SETTINGS))

        assert (reply.code, reply.erased) == ("E-MNT-110", NOTHING)
        assert "3.MP4" in reply.text
        assert site.content() == files
        assert is_read_only(disk)
        site.mounting.client(1).detach()


def test_other_bytes_of_the_same_size_stop_it(docked: Site) -> None:
    """Name, size and time are as archived, the content is not: it is read before it is erased."""
    claimed = {**CLIPS, b"DCIM/2.MP4": b"SECOND" * 100_000}

    reply = docked.erase(docked.receipt(claimed, SETTINGS))

    assert (reply.code, reply.erased) == ("E-MNT-110", NOTHING)
    assert "other bytes" in reply.text
    assert docked.content() == EVERYTHING


def test_without_all_receipts_nothing_is_erased(docked: Site) -> None:
    """A manifest of which an earlier one claims a file, without that one; and a forged receipt."""
    known_clip = known(b"DCIM/1.MP4", CLIPS[b"DCIM/1.MP4"], number=1)
    rest = {b"DCIM/2.MP4": CLIPS[b"DCIM/2.MP4"]}
    now = docked.receipt(rest, SETTINGS, number=2, known=(known_clip,))
    earlier = manifest_of({b"DCIM/1.MP4": CLIPS[b"DCIM/1.MP4"]}, number=1, docking_id=docking_id(1))

    replies = [docked.erase(now), docked.erase(now, with_receipt(earlier, key=DOCK_KEY))]

    assert [reply.code for reply in replies] == ["E-MNT-109", "E-MNT-109"]
    assert docked.content() == EVERYTHING
    assert docked.erase(now, with_receipt(earlier, key=docked.archive_key)).erased == ALL_ERASED


@pytest.mark.parametrize(
    "erasing",
    [
        Erasing(),
        Erasing(policy=ErasePolicy.AFTER_RECEIPT, models=(ModelEraseRule(model=RECORDER.model),)),
    ],
)
def test_the_policy_is_read_from_the_signed_registry(docked: Site, erasing: Erasing) -> None:
    """The site keeps everything, or everything of this model."""
    reply = docked.erase(docked.receipt(CLIPS, SETTINGS), erasing=erasing)

    assert (reply.code, reply.erased) == ("E-MNT-111", NOTHING)
    assert docked.content() == EVERYTHING


def test_a_registry_that_the_archive_did_not_sign(docked: Site) -> None:
    """Nobody else says what may be erased."""
    with proof_file(docked.receipt(CLIPS, SETTINGS), registry=registry_of(key=DOCK_KEY)) as fd:
        reply = docked.mounting.client(1).erase(DOCKING, fd, lambda _: True)

    assert reply.code == "E-MNT-109"
    assert docked.content() == EVERYTHING


def test_only_what_is_old_enough_is_erased(docked: Site) -> None:
    """By the receipts' times, file by file."""
    erasing = Erasing(policy=ErasePolicy.AFTER_DAYS, days=14)
    old = manifest_of({b"DCIM/1.MP4": CLIPS[b"DCIM/1.MP4"]}, docking_id=docking_id(1))
    new = manifest_of(
        {b"DCIM/2.MP4": CLIPS[b"DCIM/2.MP4"]},
        SETTINGS,
        number=2,
        known=(known(b"DCIM/1.MP4", CLIPS[b"DCIM/1.MP4"]),),
    )
    now = datetime.now(UTC)
    key = docked.archive_key

    reply = docked.erase(
        with_receipt(new, archived_at=now - timedelta(days=13), key=key),
        with_receipt(old, archived_at=now - timedelta(days=15), key=key),
        erasing=erasing,
    )

    assert reply == Reply(erased=Erased(files=1, size_bytes=500_000))
    assert docked.content().keys() == {b"DCIM/2.MP4", *SETTINGS}


def test_where_nothing_is_due_the_recorder_is_not_touched(docked: Site) -> None:
    """Its mounts stay as they are, also those that somebody uses."""
    erasing = Erasing(policy=ErasePolicy.AFTER_DAYS, days=14)
    receipt = with_receipt(
        manifest_of(CLIPS, SETTINGS), archived_at=datetime.now(UTC), key=docked.archive_key
    )
    clip = docked.mounting.seen(docked.mounting.bays / "1/1/DCIM/1.MP4")
    with clip.open("rb") as file:
        assert docked.erase(receipt, erasing=erasing) == Reply(erased=NOTHING)
        assert file.read() == CLIPS[b"DCIM/1.MP4"]

    assert docked.content() == EVERYTHING


def test_a_recorder_that_is_read_is_not_erased(docked: Site) -> None:
    """Whoever has a file of it open goes first."""
    clip = docked.mounting.seen(docked.mounting.bays / "1/1/DCIM/1.MP4")
    with clip.open("rb"):
        reply = docked.erase(docked.receipt(CLIPS, SETTINGS))

    assert (reply.code, reply.erased) == ("E-MNT-112", NOTHING)
    assert "cannot be unmounted" in reply.text
    assert docked.content() == EVERYTHING
    assert docked.erase(docked.receipt(CLIPS, SETTINGS)).erased == ALL_ERASED


def test_a_mount_that_lives_on_stops_it(docked: Site) -> None:
    """What somebody read before must not stand for what is on the recorder now."""
    clip = docked.mounting.seen(docked.mounting.bays / "1/1/DCIM/1.MP4")
    with clip.open("rb"):
        docked.mounting.client(1).mount()  # in place of the one that is in use
        reply = docked.erase(docked.receipt(CLIPS, SETTINGS))

    assert (reply.code, reply.erased) == ("E-MNT-112", NOTHING)
    assert "in use" in reply.text
    assert docked.content() == EVERYTHING


def test_stopped_it_erases_no_further(site: Site, tmp_path: Path) -> None:
    """Systemctl restart is how erasing is ended: it does not go on out of sight."""
    clips = {b"DCIM/%04d.MP4" % number: b"%08d" % number * 2_000 for number in range(1_500)}
    with loop_disk(card(tmp_path, clips, size_bytes=64 << 20)) as disk:
        site.mounting.plug("1-1", disk)

        def go_on(_: Progress) -> bool:
            os.kill(site.mounting.program.pid, signal.SIGTERM)
            return True

        registry = registry_of(key=site.archive_key)
        with (
            proof_file(site.receipt(clips), registry=registry) as fd,
            contextlib.suppress(MountServiceError),
        ):
            site.mounting.client(1).erase(DOCKING, fd, go_on)
        site.mounting.program.wait_until_ended()

        assert is_read_only(disk)
        with running_edge_mount() as again:
            again.plug("1-1", disk)
            again.client(1).mount()
            left = content_of(again.seen(again.bays / "1"))
            again.client(1).detach()
    assert left
    assert left.items() <= clips.items()


def test_a_volume_that_cannot_be_read_stops_it(docked: Site, tmp_path: Path) -> None:
    """Nobody knows what is on it."""
    blank = tmp_path / "blank"
    blank.write_bytes(bytes(1 << 20))
    with loop_disk(blank) as second:
        docked.mounting.sysfs.add_disk("1-1", second)
        reply = docked.erase(docked.receipt(CLIPS, SETTINGS))
        assert (reply.code, reply.erased) == ("E-MNT-110", NOTHING)
        assert docked.content() == EVERYTHING


def test_a_card_that_asks_for_a_panic(site: Site, tmp_path: Path) -> None:
    """What this machine does at an error is not for a recorder to say."""
    image = card(tmp_path, EVERYTHING)
    run("tune2fs", "-e", "panic", str(image))
    with loop_disk(image) as disk:
        site.mounting.plug("1-1", disk)
        site.mounting.client(1).mount()
        options = Path(f"/proc/fs/ext4/{disk.name}/options").read_text()
        site.mounting.client(1).detach()

    assert "errors=continue" in options.split()


def test_two_volumes_of_one_recorder(docked: Site, tmp_path: Path) -> None:
    """Both are compared, and both are erased from."""
    (tmp_path / "second").mkdir()
    inner = {b"DCIM/3.MP4": b"on the second volume"}
    image = card(tmp_path / "second", inner, size_bytes=8 << 20)
    clips = {**CLIPS, b"volume-2/DCIM/3.MP4": inner[b"DCIM/3.MP4"]}
    with loop_disk(image) as second:
        docked.mounting.sysfs.add_disk("1-1", second)
        reply = docked.erase(docked.receipt(clips, SETTINGS))

        assert reply.erased == Erased(files=3, size_bytes=1_100_020)
        assert docked.content() == SETTINGS
        docked.mounting.client(1).detach()


def test_a_link_that_took_a_folders_place(site: Site, tmp_path: Path) -> None:
    """Nothing outside of the recorder is reached through it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "1.MP4").write_bytes(CLIPS[b"DCIM/1.MP4"])
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/DCIM").symlink_to(outside)
    with loop_disk(card(tmp_path, SETTINGS)) as disk:
        site.mounting.plug("1-1", disk)
        reply = site.erase(site.receipt({b"DCIM/1.MP4": CLIPS[b"DCIM/1.MP4"]}, SETTINGS))
        site.mounting.client(1).detach()

    assert (reply.code, reply.erased) == ("E-MNT-110", NOTHING)
    assert (outside / "1.MP4").exists()


def test_a_journal_that_was_not_replayed_stops_it(site: Site, tmp_path: Path) -> None:
    """Mounting it to write would change what was compared."""
    image = card(tmp_path, EVERYTHING)
    run("debugfs", "-w", "-R", "feature needs_recovery", str(image))
    with loop_disk(image) as disk:
        site.mounting.plug("1-1", disk)
        reply = site.erase(site.receipt(CLIPS, SETTINGS))
        assert (reply.code, reply.erased) == ("E-MNT-112", NOTHING)
        assert "journal" in reply.text
        site.mounting.client(1).detach()


def test_a_client_that_leaves_ends_it(docked: Site, disk: BlockDevice) -> None:
    """Before anything is erased, if it leaves while the recorder is read."""
    with proof_file(
        docked.receipt(CLIPS, SETTINGS), registry=registry_of(key=docked.archive_key)
    ) as fd:
        with pytest.raises(MountServiceError, match="not waited for"):
            docked.mounting.client(1).erase(DOCKING, fd, lambda _: False)
        # The bay answers again when the erasing has ended.
        assert docked.mounting.client(1).mount().volumes

    assert is_read_only(disk)
    assert not docked.mounting.writable_mounts()
    content = docked.content()
    assert content.items() <= EVERYTHING.items()
    assert SETTINGS.items() <= content.items()


@pytest.mark.parametrize("progress", [1, 2, 3])
def test_killed_at_any_step(authority: Authority, disk: BlockDevice, progress: int) -> None:
    """Each file is there, whole, or gone; started anew, nobody can write, and it goes on."""
    pair = authority.issue_signing("archive")
    key = load_signing_key(pair.key)
    left = progress
    with running_edge_mount("--may-erase", certificate=pair.certificate) as mounting:
        mounting.plug("1-1", disk)

        def go_on(_: Progress) -> bool:
            nonlocal left
            left -= 1
            if left == 0:
                mounting.program.kill()
            return True

        receipt = with_receipt(manifest_of(CLIPS, SETTINGS), key=key)
        with (
            proof_file(receipt, registry=registry_of(key=key)) as fd,
            contextlib.suppress(MountServiceError),
        ):
            mounting.client(1).erase(DOCKING, fd, go_on)

    with running_edge_mount("--may-erase", certificate=pair.certificate) as mounting:
        mounting.plug("1-1", disk)
        site = Site(mounting=mounting, archive_key=key)
        assert mounting.client(1).mount().volumes
        content = dict(site.content())
        assert content.items() <= EVERYTHING.items()
        assert SETTINGS.items() <= content.items()
        assert is_read_only(disk)
        clips = {path: content[path] for path in CLIPS if path in content}
        reply = site.erase(site.receipt(clips, SETTINGS))
        assert reply.erased is not None
        assert reply.erased.files == len(clips)
        assert site.content() == SETTINGS
        mounting.client(1).detach()
    run("fsck.ext4", "-f", "-n", f"/dev/{disk.name}")


def test_a_machine_that_may_not_erase(authority: Authority, disk: BlockDevice) -> None:
    """Without --may-erase it does not, whatever it is shown."""
    pair = authority.issue_signing("archive")
    with running_edge_mount(certificate=pair.certificate) as mounting:
        mounting.plug("1-1", disk)
        mounting.client(1).mount()
        site = Site(mounting=mounting, archive_key=load_signing_key(pair.key))
        reply = site.erase(site.receipt(CLIPS, SETTINGS))
        assert (reply.code, reply.erased) == ("E-MNT-111", None)
        assert site.content() == EVERYTHING


@pytest.mark.parametrize("size_bytes", [0, 3, 4, 100])
def test_a_file_that_is_no_proof(docked: Site, tmp_path: Path, size_bytes: int) -> None:
    """Too short, or of lengths that there are not."""
    (tmp_path / "proof").write_bytes(b"\0\0\1\0"[:size_bytes].ljust(size_bytes, b"x"))
    with (tmp_path / "proof").open("rb") as file:
        reply = docked.mounting.client(1).erase(DOCKING, file.fileno(), lambda _: True)

    assert reply.code == "E-MNT-109"
    assert docked.content() == EVERYTHING


def test_a_pipe_is_no_proof(docked: Site) -> None:
    """Nothing is waited for that never comes."""
    reading, writing = os.pipe()
    try:
        reply = docked.mounting.client(1).erase(DOCKING, reading, lambda _: True)
    finally:
        os.close(reading)
        os.close(writing)

    assert reply.code == "E-MNT-109"


def test_whose_word_counts_is_the_machines(authority: Authority, tmp_path: Path) -> None:
    """A certificate that edge-agent's user could replace keeps edge-mount from starting."""
    pair = authority.issue_signing("archive")
    mine = tmp_path / "signing.pem"
    shutil.copyfile(pair.certificate, mine)
    mine.chmod(0o664)

    with (
        pytest.raises(DemoError, match="nobody else may write to it"),
        running_edge_mount("--may-erase", certificate=mine),
    ):
        pass
