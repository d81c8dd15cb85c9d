"""The first program of the guest: runs what the host asks for, one JSON object a line each way."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any, BinaryIO

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def main() -> None:
    """Serve until the machine is switched off."""
    os.environ["PATH"] = _PATH
    os.environ["HOME"] = "/root"
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    [port] = Path("/dev").glob("vport*p1")
    with port.open("r+b", buffering=0) as line:
        _say(line, {"ready": os.uname().release})
        for asked in _lines(line):
            _say(line, _answer(asked))


def _lines(line: BinaryIO) -> Any:
    """Yield what is asked; the port gives as much as there is."""
    held = b""
    while True:
        held += line.read(4096) or b""
        while b"\n" in held:
            one, _, held = held.partition(b"\n")
            yield json.loads(one)


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Run a command to its end, or begin one that goes on."""
    if asked.get("background"):
        with Path(asked["log"]).open("ab") as log:
            child = subprocess.Popen(
                asked["command"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return {"pid": child.pid}
    try:
        done = subprocess.run(
            asked["command"],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=asked["timeout_s"],
        )
    except subprocess.TimeoutExpired:
        return {"status": -signal.SIGALRM, "out": "", "err": "it took too long"}
    return {"status": done.returncode, "out": done.stdout, "err": done.stderr}


def _say(line: BinaryIO, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[line.write(data) or 0 :]


if __name__ == "__main__":
    main()
