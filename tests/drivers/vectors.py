"""The vectors of the line protocol, which any implementation can use."""

import json
from typing import Any, Final

from edge_agent.drivers.line_frames import Frame, Kind
from tests.architecture.source_tree import ROOT

FOLDER: Final = ROOT / "tests/vectors/recorder-line"


def read(name: str) -> list[dict[str, Any]]:
    """Return the cases of one file."""
    cases: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return cases


def frame_of(case: dict[str, Any]) -> Frame:
    """Return the frame that a case of frames.json describes."""
    return Frame(
        kind=Kind[case["kind"].upper()],
        session=case["session"],
        sequence=case["sequence"],
        verb=case["verb"],
        result=case["result"],
        payload=bytes.fromhex(case["payload"]),
    )


FRAMES: Final = {case["name"]: frame_of(case) for case in read("frames")}
LINES: Final = {case["name"]: bytes.fromhex(case["line"]) for case in read("frames")}
