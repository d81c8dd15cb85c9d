import hashlib
import json
import re
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from functools import reduce
from itertools import pairwise
from operator import xor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.recorders import ZONE, plan_recorders
from demo.volumes import (
    PULLED_RECORDER,
    DemoVolumes,
    TargetError,
    build_volumes,
    main,
)
from tests.demo.conftest import TODAY
from tests.demo.profile_rules import detects, matched, names, profile

PROFILE_OF = {"DSJ-A8": "dsj-a8", "DSJ-V2": "dsj-v2"}


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_description_names_every_file(volumes: DemoVolumes) -> None:
    """A volume holds the files of its description and no others."""
    for volume in volumes:
        assert tree(volume.folder) == {file.relative_path for file in volume.files}


def test_the_description_agrees_with_the_files(volumes: DemoVolumes) -> None:
    """Digest, size and time of each file are as described."""
    for volume in volumes:
        for file in volume.files:
            path = volume.folder / file.relative_path
            assert hashlib.sha256(path.read_bytes()).digest() == file.sha256
            assert path.stat().st_size == file.size_bytes
            assert datetime.fromtimestamp(path.stat().st_mtime, UTC) == file.modified_utc


def test_each_volume_fits_its_model_alone(volumes: DemoVolumes) -> None:
    """Of all profiles, the one of the recorder's model detects a volume, and no other."""
    for volume in volumes:
        fitting = {
            name
            for name in names()
            if any(detects(profile(name), file.relative_path) for file in volume.files)
        }
        assert {PROFILE_OF[volume.model]} == fitting


def test_names_say_what_the_description_says(volumes: DemoVolumes) -> None:
    """The profile's pattern finds each clip's kind, start and mark in its name."""
    for volume in volumes:
        rules = profile(PROFILE_OF[volume.model])
        for clip in volume.clips:
            found = matched(rules, clip.relative_path)
            assert found is not None
            kind, match = found
            assert clip.kind == kind
            assert f"{clip.start:%Y%m%d%H%M%S}" == match["start"]
            assert clip.marked == (match["marked"] is not None)


def test_names_of_model_a_say_who_it_is(volumes: DemoVolumes) -> None:
    """In a DSJ-A8's file names stand its serial number and its officer."""
    rules = profile("dsj-a8")
    for volume in volumes:
        if volume.model == "DSJ-A8":
            found = [matched(rules, clip.relative_path) for clip in volume.clips]
            assert {(volume.serial, volume.officer)} == {
                (match["serial"], match["officer"]) for _, match in filter(None, found)
            }


def test_the_device_file_of_model_b_says_who_it_is(volumes: DemoVolumes) -> None:
    """A DSJ-V2's device file, decoded as its profile says, has number, officer and name."""
    volume = volumes.recorder("R-0002")
    identity = profile("dsj-v2")["identity"]
    text = (volume.folder / identity["file"]).read_bytes().decode(identity["encoding"])
    values = dict(line.split("=", 1) for line in text.splitlines())

    assert volume.serial == values[identity["serial"]]
    assert volume.officer == values[identity["officer"]]
    assert volume.officer_name == values["name"]
    assert volume.model == values["model"]


def test_other_and_foreign_files_are_no_footage(volumes: DemoVolumes) -> None:
    """What is not described as a clip matches no rule but a log's."""
    for volume in volumes:
        rules = profile(PROFILE_OF[volume.model])
        for file in (*volume.other_files, *volume.foreign_files):
            found = matched(rules, file.relative_path)
            assert found is None or found[0] == "log"


def test_the_join_rule_gives_the_recordings(volumes: DemoVolumes) -> None:
    """By sequence numbers and times, clips fall together exactly as described."""
    for volume in volumes:
        rules = profile(PROFILE_OF[volume.model])
        gap = timedelta(seconds=rules["join"]["gap_s"])
        clips = [clip for clip in volume.clips if not clip.marked]
        for one, following in pairwise(sorted(clips, key=lambda clip: clip.start)):
            sequences = [
                int(match["sequence"])
                for _, match in filter(
                    None, (matched(rules, clip.relative_path) for clip in (one, following))
                )
            ]
            near = abs(following.start - one.modified_utc) <= gap
            joined = sequences[1] == sequences[0] + 1 and near
            assert joined == (one.recording == following.recording)


def test_a_marked_clip_has_the_content_of_its_unmarked_one(volumes: DemoVolumes) -> None:
    """Marking copied: same bytes, other name, later time, same recording."""
    clips = {clip.relative_path: clip for clip in volumes.recorder("R-0001").clips}
    [plain] = [clip for clip in clips.values() if clip.alias_of]
    marked = clips[plain.alias_of or ""]

    assert marked.marked
    assert marked.sha256 == plain.sha256
    assert marked.recording == plain.recording
    assert marked.modified_utc > plain.modified_utc


def test_only_the_alias_repeats_content(volumes: DemoVolumes) -> None:
    """Any two other clips of the demo differ."""
    by_digest = defaultdict(list)
    for volume in volumes:
        for clip in volume.clips:
            by_digest[clip.sha256].append(clip)

    repeated = [clips for clips in by_digest.values() if len(clips) > 1]
    assert [[clip.marked for clip in clips] for clips in repeated] == [[True, False]]


def test_the_volumes_show_what_the_demo_tells(volumes: DemoVolumes) -> None:
    """Three contiguous clips, a clip of 40 MB to pull, foreign files, a stranger."""
    first, pulled, foreign = (
        volumes.recorder(name) for name in ("R-0001", PULLED_RECORDER, "R-0003")
    )

    assert [clip.recording for clip in first.clips] == [1, 1, 1, 2, 2]
    assert max(clip.size_bytes for clip in pulled.clips) > 40_000_000
    assert {"video", "photo"} == {clip.kind for clip in pulled.clips}
    assert {"autorun.inf", "setup.exe"} == {file.relative_path for file in foreign.foreign_files}
    assert [volume.recorder_id for volume in volumes if not volume.recorder_id] == [None]
    assert volumes.unregistered.serial == "9999999"
    assert sum(file.size_bytes for volume in volumes for file in volume.files) < 200_000_000


def test_clips_last_as_long_as_described(volumes: DemoVolumes) -> None:
    """A clip of each volume has the duration and the start that its description gives."""
    for volume in volumes:
        clip = next(clip for clip in volume.clips if clip.kind == "video")
        command = ["ffprobe", "-v", "error", "-of", "json", "-show_format"]
        path = volume.folder / clip.relative_path
        facts = json.loads(subprocess.check_output([*command, str(path)]))["format"]
        assert abs(float(facts["duration"]) - clip.duration_s) < 0.1
        assert datetime.fromisoformat(facts["tags"]["creation_time"]) == clip.start


def test_track_sentences_have_right_checksums(volumes: DemoVolumes) -> None:
    """Each NMEA sentence ends with the exclusive or of its characters."""
    [track] = (volumes.recorder("R-0001").folder / "GPS").iterdir()
    sentences = track.read_text("ascii").splitlines()

    assert sentences
    for sentence in sentences:
        found = re.fullmatch(r"\$(.+)\*([0-9A-F]{2})", sentence)
        assert found is not None
        assert reduce(xor, found[1].encode()) == int(found[2], 16)


@given(today=st.dates(min_value=date(2000, 1, 1), max_value=date(2100, 1, 1)))
def test_nothing_is_of_today_or_later(today: date) -> None:
    """Whatever day the demo is on, its footage is from the two days before."""
    midnight = datetime.combine(today, time(), tzinfo=ZONE)
    files = [file for recorder in plan_recorders(today) for file in recorder.files]

    assert all(midnight - timedelta(days=2) <= file.modified < midnight for file in files)


@given(today=st.dates(min_value=date(2000, 1, 1), max_value=date(2100, 1, 1)))
def test_times_are_what_fat_can_hold(today: date) -> None:
    """Every time is at an even second, so none would be rounded on a real recorder."""
    files = [file for recorder in plan_recorders(today) for file in recorder.files]

    assert all(file.modified.timestamp() % 2 == 0 for file in files)


def test_building_again_uses_the_cache(
    volumes: DemoVolumes,
    footage_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the cache of an earlier build, no ffmpeg is needed and the result is the same."""
    monkeypatch.setenv("PATH", str(tmp_path))

    again = build_volumes(tmp_path / "recorders", footage_cache, today=TODAY)

    assert [volume.files for volume in again] == [volume.files for volume in volumes]


def test_building_again_mends_the_volumes(footage_cache: Path, tmp_path: Path) -> None:
    """A second build in the same target undoes what happened to the first."""
    first = build_volumes(tmp_path, footage_cache, today=TODAY)
    damaged = first.unregistered.folder
    (damaged / first.unregistered.clips[0].relative_path).write_bytes(b"")
    (damaged / "extra").touch()

    second = build_volumes(tmp_path, footage_cache, today=TODAY)

    assert second == first
    assert tree(damaged) == {first.unregistered.clips[0].relative_path}
    assert (damaged / first.unregistered.clips[0].relative_path).stat().st_size > 0


def test_a_strangers_folder_is_left_alone(footage_cache: Path, tmp_path: Path) -> None:
    """A target that holds somebody's files is refused and stays as it is."""
    (tmp_path / "R-0001").mkdir()
    (tmp_path / "R-0001" / "thesis.txt").write_text("irreplaceable")

    with pytest.raises(TargetError):
        build_volumes(tmp_path, footage_cache, today=TODAY)

    assert {"R-0001/thesis.txt"} == tree(tmp_path)


def test_the_command_lists_what_it_built(
    footage_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line builds the volumes and prints each file with its digest."""
    target = tmp_path / "recorders"
    options = ["--cache", str(footage_cache), "--today", TODAY.isoformat()]

    status = main(["--target", str(target), *options])

    printed = capsys.readouterr().out
    assert status == 0
    assert "9999999" in printed
    clips = [path for path in target.rglob("*.MP4") if path.is_file()]
    assert clips
    for clip in clips:
        assert hashlib.sha256(clip.read_bytes()).hexdigest()[:16] in printed


def test_the_command_says_why_it_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refused target is one line on standard error and status 1."""
    (tmp_path / "thesis.txt").touch()

    status = main(["--target", str(tmp_path)])

    assert status == 1
    assert "not empty" in capsys.readouterr().err


def test_help_has_an_example() -> None:
    """--help shows a command that can be typed as it stands."""
    command = [sys.executable, "-m", "demo.volumes", "--help"]
    root = Path(__file__).resolve().parents[2]

    shown = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)

    assert "example: python -m demo.volumes --target" in shown.stdout
