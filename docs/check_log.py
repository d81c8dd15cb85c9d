"""Check a custody log with Python and openssl alone; docs/custody-log.md explains the steps.

    python3 check_log.py LOG KEY.pem [TEXT]   a whole log; shows its entries, or those with TEXT
    python3 check_log.py FILE KEY.pem         one entry that was handed out with its proof
Ends with 0 when all is well, else with 1 and a line that says what is wrong.
"""

import base64
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path


def need(condition, what):
    if not condition:
        sys.exit(f"WRONG: {what}")


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def tree(hashes):  # RFC 6962, 2.1
    if len(hashes) < 2:
        return hashes[0] if hashes else sha256()
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return sha256(b"\1", tree(hashes[:split]), tree(hashes[split:]))


def checkpoint(note, key):  # C2SP signed-note and tlog-checkpoint
    text, _, lines = note.decode().rpartition("\n\n")
    origin, size, root = text.split("\n")
    raw_key = base64.b64decode("".join(Path(key).read_text().split("-----")[2].split()))[-32:]
    for line in lines.split("\n")[:-1]:
        _, name, value = line.split(" ")
        signature = base64.b64decode(value)
        if name == origin and signature[:4] == sha256(origin.encode(), b"\n\1", raw_key)[:4]:
            with tempfile.TemporaryDirectory() as work:
                Path(work, "text").write_text(text + "\n")
                Path(work, "sig").write_bytes(signature[4:])
                command = f"openssl pkeyutl -verify -rawin -in {work}/text -sigfile {work}/sig"
                command = [*command.split(), "-pubin", "-inkey", key]
                if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                    return int(size), base64.b64decode(root)
    sys.exit("WRONG: the checkpoint is not signed by this key")


def read_tile(log, level, number, width):  # C2SP tlog-tiles
    above = "".join(f"x{number // 1000**n % 1000:03d}/" for n in (3, 2, 1) if number >= 1000**n)
    path = Path(log, f"tile/{level}/{above}{number % 1000:03d}" + f".p/{width}" * (width < 256))
    need(path.is_file(), f"{path} is missing")
    return path, path.read_bytes()


def whole_log(log, key):
    size, root = checkpoint(Path(log, "checkpoint").read_bytes(), key)
    entries = []
    for first in range(0, size, 256):
        path, data = read_tile(log, "entries", first // 256, min(256, size - first))
        while data:
            end = 2 + int.from_bytes(data[:2], "big")
            entries.append(data[2:end])
            data = data[end:]
        need(len(entries) == min(first + 256, size), f"{path} has too many or too few entries")
    leaves = hashes = [sha256(b"\0", entry) for entry in entries]
    for level in range(8):
        for first in range(0, len(hashes), 256):
            part = hashes[first : first + 256]
            path, data = read_tile(log, level, first // 256, len(part))
            need(data == b"".join(part), f"{path}, or what it stands for, was changed")
        hashes = [tree(hashes[n : n + 256]) for n in range(0, len(hashes) - 255, 256)]
    need(tree(leaves) == root, "the entries are not those that were signed")
    for seen in sorted(Path(log, "watched").glob("*")):
        earlier, was = checkpoint(seen.read_bytes(), key)
        need(earlier <= size and tree(leaves[:earlier]) == was, f"{seen}: a dock saw another log")
    return enumerate(entries)


def proven(file, key):  # C2SP tlog-proof; RFC 9162, 2.1.3.2
    head, _, note = Path(file).read_bytes().partition(b"\n\n")
    _, extra, number, *hashes = head.decode().split("\n")
    entry, index = base64.b64decode(extra.split()[1]), int(number.split()[1])
    size, root = checkpoint(note, key)
    found, last = sha256(b"\0", entry), size - 1
    need(0 <= index <= last, "the log has no such entry")
    for beside in map(base64.b64decode, hashes):
        on_the_right = index & 1 or index == last
        found = sha256(b"\1", beside, found) if on_the_right else sha256(b"\1", found, beside)
        while on_the_right and index and not index & 1:
            index, last = index >> 1, last >> 1
        index, last = index >> 1, last >> 1
    need(last == 0 and found == root, "the proof does not lead from the entry to the signed root")
    return [(number, entry)]


if len(sys.argv) not in {3, 4}:
    sys.exit(__doc__)
place, key, text = (*sys.argv[1:], "")[:3]
for number, one in whole_log(place, key) if Path(place).is_dir() else proven(place, key):
    if text.encode() in one:
        print(number, one.decode())
