import json
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from demo.footage import (
    ClipShot,
    EncodingError,
    MissingToolError,
    PhotoShot,
    Shot,
    Wearer,
    make_footage,
)

WEARER: Final = Wearer(model="DSJ-A8", serial="0000017", officer="012345")
START: Final = datetime(2026, 11, 21, 8, 30, 12, tzinfo=ZoneInfo("Asia/Shanghai"))
CLIP: Final = ClipShot(wearer=WEARER, start=START, duration_s=2, sequence=1)
PHOTO: Final = PhotoShot(wearer=WEARER, start=START, sequence=2, width_px=320, height_px=180)


def made(shot: Shot, cache: Path) -> Path:
    return make_footage([shot], cache)[shot]


def probed(file: Path) -> Any:
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_format", "-show_streams"]
    return json.loads(subprocess.check_output([*command, str(file)]))


def burnt_text(file: Path, *, at_s: float, bar: str) -> bytes:
    """Return one frame's upper or lower bar as pixels, 1 for text and 0 for ground."""
    y = {"upper": "0", "lower": "ih-ih/10"}[bar]
    command = ["ffmpeg", "-v", "error", "-ss", str(at_s), "-i", str(file), "-frames:v", "1"]
    command += ["-vf", f"crop=iw:ih/10:0:{y},format=gray", "-f", "rawvideo", "-"]
    return bytes(level > 128 for level in subprocess.check_output(command))


def differing(one: bytes, other: bytes) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def counting_ffmpeg(folder: Path) -> tuple[str, Path]:
    """Return a search path whose ffmpeg is the real one and writes a line for each run."""
    runs = folder / "runs"
    runs.touch()
    program = folder / "ffmpeg"
    real = shutil.which("ffmpeg")
    program.write_text(f'#!/bin/sh\necho run >>"{runs}"\nexec "{real}" "$@"\n')
    program.chmod(0o755)
    return str(folder), runs


def test_a_clip_is_h264_and_aac(footage_cache: Path) -> None:
    """A clip has one H.264 picture and one AAC sound, as long as it was asked to be."""
    facts = probed(made(CLIP, footage_cache))

    assert {"h264", "aac"} == {stream["codec_name"] for stream in facts["streams"]}
    assert abs(float(facts["format"]["duration"]) - CLIP.duration_s) < 0.1
    assert [stream["width"] for stream in facts["streams"] if "width" in stream] == [640]


def test_a_clip_says_when_it_started(footage_cache: Path) -> None:
    """The container's creation time is the clip's start, in UTC."""
    tags = probed(made(CLIP, footage_cache))["format"]["tags"]

    assert datetime.fromisoformat(tags["creation_time"]) == START
    assert datetime.fromisoformat(tags["creation_time"]).utcoffset() == timedelta(0)


def test_a_clip_bears_no_trace_of_software(footage_cache: Path) -> None:
    """Nothing in a clip names an encoder that a recorder would not have."""
    content = made(CLIP, footage_cache).read_bytes()

    assert b"Lav" not in content
    assert b"x264" not in content


def test_a_clip_can_be_played_while_it_loads(footage_cache: Path) -> None:
    """The index stands before the media."""
    content = made(CLIP, footage_cache).read_bytes()

    assert content.index(b"moov") < content.index(b"mdat")


def test_the_burnt_clock_runs(footage_cache: Path) -> None:
    """The upper bar stays through a second and changes with the next."""
    clip = made(CLIP, footage_cache)
    early, late, next_second = (burnt_text(clip, at_s=s, bar="upper") for s in (0.2, 0.8, 1.2))

    assert any(early)
    assert differing(early, late) < 10 < differing(early, next_second)


def test_the_burnt_clock_shows_the_start(footage_cache: Path) -> None:
    """A clip that starts a second later shows at once what the first shows after a second."""
    later = replace(CLIP, start=START + timedelta(seconds=1))
    after_a_second = burnt_text(made(CLIP, footage_cache), at_s=1.2, bar="upper")
    at_once = burnt_text(made(later, footage_cache), at_s=0.2, bar="upper")

    assert differing(after_a_second, at_once) < 10


def test_the_clock_is_the_recorders_and_not_utc(footage_cache: Path) -> None:
    """The same moment on a recorder set to UTC shows another hour."""
    in_utc = replace(CLIP, start=START.astimezone(UTC))
    here = burnt_text(made(CLIP, footage_cache), at_s=0.2, bar="upper")
    there = burnt_text(made(in_utc, footage_cache), at_s=0.2, bar="upper")

    assert differing(here, there) > 10


def test_the_officer_is_in_the_picture(footage_cache: Path) -> None:
    """The lower bar differs between two officers."""
    other = replace(CLIP, wearer=replace(WEARER, officer="678900"))
    mine = burnt_text(made(CLIP, footage_cache), at_s=0.2, bar="lower")
    theirs = burnt_text(made(other, footage_cache), at_s=0.2, bar="lower")

    assert differing(mine, theirs) > 10


def test_the_rate_sets_the_size(footage_cache: Path) -> None:
    """A clip of a constant rate has the bytes that the rate asks for, within a tenth."""
    clip = made(replace(CLIP, rate_kbit_s=8_000), footage_cache)

    assert clip.stat().st_size == pytest.approx(8_000 * 2 * 125, rel=0.1)


@pytest.mark.parametrize("shot", [CLIP, replace(CLIP, rate_kbit_s=4_000), PHOTO])
def test_the_same_shot_has_the_same_bytes(shot: Shot, tmp_path: Path, footage_cache: Path) -> None:
    """Made again in an empty cache, a shot is the same byte for byte."""
    assert made(shot, tmp_path).read_bytes() == made(shot, footage_cache).read_bytes()


def test_a_photograph_is_a_jpeg(footage_cache: Path) -> None:
    """A photograph is one JPEG picture of the size asked for."""
    photo = made(PHOTO, footage_cache)
    [picture] = probed(photo)["streams"]

    assert photo.read_bytes().startswith(b"\xff\xd8\xff")
    assert (picture["codec_name"], picture["width"], picture["height"]) == ("mjpeg", 320, 180)


def test_a_shot_in_the_cache_needs_no_ffmpeg(footage_cache: Path, tmp_path: Path) -> None:
    """What is in the cache is found even where no ffmpeg is; what is not, is not."""
    clip = made(CLIP, footage_cache)

    assert make_footage([CLIP], footage_cache, search_path=str(tmp_path)) == {CLIP: clip}


def test_a_missing_ffmpeg_is_said_with_its_cure(tmp_path: Path) -> None:
    """Without ffmpeg the error names the command that installs it."""
    with pytest.raises(MissingToolError, match=r"apt-get install .*ffmpeg"):
        make_footage([CLIP], tmp_path / "cache", search_path=str(tmp_path))


def test_two_makers_make_a_shot_once(tmp_path: Path) -> None:
    """Of two that want the same shot at the same time, one makes it."""
    search_path, runs = counting_ffmpeg(tmp_path)
    cache = tmp_path / "cache"

    with ThreadPoolExecutor(max_workers=2) as pool:
        both = [
            pool.submit(make_footage, [PHOTO], cache, search_path=search_path) for _ in range(2)
        ]
        files = [one.result()[PHOTO] for one in both]

    assert files[0] == files[1]
    assert runs.read_text().splitlines() == ["run"]


def test_a_failed_shot_leaves_nothing(tmp_path: Path) -> None:
    """When ffmpeg refuses, what it said is in the error and no file stays."""
    with pytest.raises(EncodingError, match="0x360"):
        make_footage([replace(CLIP, width_px=0)], tmp_path)

    assert [entry.name for entry in tmp_path.iterdir()] == [".lock"]


def test_unused_footage_is_forgotten(tmp_path: Path) -> None:
    """A shot that nobody asked for in days goes; files of other names stay."""
    old = made(PHOTO, tmp_path)
    notes = tmp_path / "notes.txt"
    notes.touch()
    four_days_ago_s = time.time() - 4 * 86_400
    for file in (old, notes):
        os.utime(file, (four_days_ago_s, four_days_ago_s))

    newer = made(replace(PHOTO, sequence=3), tmp_path)

    assert {"notes.txt", ".lock", newer.name} == {entry.name for entry in tmp_path.iterdir()}


@pytest.mark.parametrize("text", ["", "a:b", "a'b", "%{pts}", "张伟", "a b", "a\n", "x" * 33])
def test_only_plain_words_are_burnt_in(text: str) -> None:
    """Text that ffmpeg's filter language could take for its own is refused."""
    with pytest.raises(ValueError, match="cannot be burnt"):
        Wearer(model="DSJ-A8", serial="0000017", officer=text)
