"""Makes a bare machine a dock: takes in once what `server-agent dock-key` wrote on a USB key.

In an order in which a power cut leaves either no dock, and the key as it was, or a whole dock:
keys, addresses, edge.toml, and then the key is emptied.
"""

import contextlib
import os
import shutil
import stat
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_agent.adapters.mount_calls import detach, mount, read_head
from edge_agent.config import EdgeConfig, check_config, load_config
from edge_agent.errors import AlreadyDockError, EdgeError, UnusableDockKeyError
from edge_agent.guard.policy import problems
from edge_agent.guard_config import GuardConfig, known_hosts, policy_of
from edge_agent.mounting.options import MS_NODEV, MS_NOEXEC, MS_NOSUID
from edge_agent.mounting.superblock import HEAD_BYTES, recognise
from protocol.errors import ProtocolError
from protocol.provisioning import FILE_NAME, MAX_BYTES, PEM_FILES, RESULT_NAME, DockKey, parse
from runtime.durable import (
    make_directories,
    replace_file,
    sync_directory,
    sync_file,
    write_all,
)
from runtime.errors import RuntimeFault
from runtime.settings import load_toml

_MS_NOSYMFOLLOW: Final = 0x100
_KEY_FLAGS: Final = MS_NOSUID | MS_NODEV | MS_NOEXEC | _MS_NOSYMFOLLOW
_BAYS: Final = "bays.toml"
_SECRET: Final = 0o600
# Enabled, as `systemctl enable` does it; without [guard] it has nothing to keep.
_GUARD_UNIT: Final = Path("/usr/lib/systemd/system/edge-guard.service")
_DROP_IN: Final = """\
# The addresses that this dock may connect to, and no others; from its USB key.
[Service]
IPAddressAllow={addresses}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where things go: /etc/bayward, /etc/systemd/system; and whose the private keys are."""

    etc: Path
    units: Path
    uid: int
    gid: int


def provision(folder: Path, place: Place) -> str:
    """Take in the key whose files are in a folder; return the dock's name.

    The outcome is left on the key as a text, and nothing secret with it.

    Raises:
        EdgeError, ProtocolError, RuntimeFault: This machine is a dock already, or the key cannot
            be used. Nothing was changed.
        OSError: A disk failed.
    """
    path = folder / FILE_NAME
    try:
        key = _read(path)
        if (place.etc / "edge.toml").exists():
            raise AlreadyDockError(f"{place.etc / 'edge.toml'} is there: this is a dock already")
        text = _with_bays(key, place)
        _check(key, text, place)
    except (EdgeError, ProtocolError, RuntimeFault) as error:
        _leave_result(folder, f"{error.code}: {error}")
        raise
    _install(key, text, place)
    _empty(path)
    _leave_result(folder, f"this machine is {key.dock} now; the keys are not here any more")
    return key.dock


@contextlib.contextmanager
def mounted_key(device: Path, target: Path) -> Iterator[Path]:
    """Mount a USB key for reading and writing; the process has a mount namespace of its own.

    Raises:
        MountError: It holds no file system that we know, or the kernel did not mount it.
        OSError: The device is gone.
    """
    fd = os.open(device, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        kind = recognise(read_head(fd, HEAD_BYTES)).kind
        target.mkdir(mode=0o700, exist_ok=True)
        mount(fd, target, kind=kind.value, flags=_KEY_FLAGS, options="")
    finally:
        os.close(fd)
    try:
        yield target
    finally:
        detach(target)


def _read(path: Path) -> DockKey:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise UnusableDockKeyError(f"there is no {path.name} on it") from None
    except OSError as error:
        raise UnusableDockKeyError(f"{path.name}: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise UnusableDockKeyError(f"{path.name} is no file")
    with os.fdopen(fd, "rb") as file:
        untrusted = file.read(MAX_BYTES + 1)
    return parse(untrusted)


def _with_bays(key: DockKey, place: Place) -> str:
    """Return edge.toml with bays: the key's own, or those that were found out on this machine."""
    try:
        if "bays" in tomllib.loads(key.edge_toml):
            return key.edge_toml
        return f"{key.edge_toml}\n{(place.etc / _BAYS).read_text(encoding='utf-8')}"
    except FileNotFoundError:
        raise UnusableDockKeyError(
            "it names no bays; first: edge-agent map-bays --bays 8 --write "
            f"{place.etc / _BAYS}, then plug it in again"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UnusableDockKeyError(f"edge.toml: {error}") from None


def _check(key: DockKey, text: str, place: Place) -> None:
    """Try it in a folder aside, before anything is changed."""
    aside = Path(tempfile.mkdtemp(prefix=".provisioning-", dir=place.etc))
    try:
        (aside / "pki").mkdir()
        for path, pem, mode in _pems(key, aside / "pki"):
            path.touch(mode=mode)
            path.write_text(pem, encoding="utf-8")
        (aside / "edge.toml").write_text(text, encoding="utf-8")
        config = load_config(aside / "edge.toml")
        _refuse(key, [*_problems(config), *_guard_problems(config, aside / "edge.toml")])
    finally:
        shutil.rmtree(aside)


def _problems(config: EdgeConfig) -> list[str]:
    return [
        f"{check.name}: {check.problem}"
        for check in check_config(config)
        if check.problem is not None and not check.passing
    ]


def _guard_problems(config: EdgeConfig, path: Path) -> list[str]:
    """Return why edge-guard would not obey it: a dock that nobody keeps, or that nobody reaches."""
    if config.guard is None:
        return []
    guarded = load_toml(path, GuardConfig)
    return [f"[guard]: {one}" for one in problems(policy_of(guarded, path, hosts=known_hosts()))]


def _refuse(key: DockKey, problems: list[str]) -> None:
    if problems:
        raise UnusableDockKeyError(f"{key.dock}: {'; '.join(problems)}")


def _install(key: DockKey, text: str, place: Place) -> None:
    pki = place.etc / "pki"
    make_directories(pki, mode=0o755)
    for path, pem, mode in _pems(key, pki):
        replace_file(path, pem.encode(), mode=mode)
        path.chmod(mode)
        # Certificates are the machine's: whose word is believed is not for the agent to change.
        if mode == _SECRET:
            os.chown(path, place.uid, place.gid)
    drop_in = place.units / "edge-agent.service.d/50-addresses.conf"
    make_directories(drop_in.parent, mode=0o755)
    replace_file(drop_in, _DROP_IN.format(addresses=" ".join(key.addresses)).encode(), mode=0o644)
    if "guard" in tomllib.loads(text):
        wanted = place.units / "sysinit.target.wants" / _GUARD_UNIT.name
        make_directories(wanted.parent, mode=0o755)
        wanted.unlink(missing_ok=True)
        wanted.symlink_to(_GUARD_UNIT)
        sync_directory(wanted.parent)
    # Last: with it, this is a dock.
    replace_file(place.etc / "edge.toml", text.encode(), mode=0o644)


def _pems(key: DockKey, folder: Path) -> Iterator[tuple[Path, str, int]]:
    for field, name in PEM_FILES.items():
        mode = _SECRET if name.endswith(".key") else 0o644
        yield folder / name, getattr(key.keys, field), mode


def _empty(path: Path) -> None:
    """Overwrite what the file holds, then remove it; flash may keep older bytes for itself."""
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        write_all(fd, bytes(os.fstat(fd).st_size))
        sync_file(fd)
    finally:
        os.close(fd)
    path.unlink()
    sync_directory(path.parent)


def _leave_result(folder: Path, text: str) -> None:
    """Tell the outcome on the key: a headless machine has no other way before it is a dock."""
    with contextlib.suppress(
        OSError
    ):  # a key that cannot be written to; the caller says it as well
        replace_file(folder / RESULT_NAME, f"{text}\r\n".encode(), mode=0o644)
