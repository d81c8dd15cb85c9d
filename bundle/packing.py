"""From a folder with packages to the one file that is carried over."""

import hashlib
import tarfile
from pathlib import Path

from bundle.steps import run


def pack(folder: Path, out: Path, made_at_s: int) -> Path:
    """List what is in a bundle's folder for apt and for `sha256sum`, and put it into one file.

    Args:
        folder: Of the bundle; its name is the file's. Debian packages are in deb/ARCHITECTURE.
        out: Where the file is made; created if need be.
        made_at_s: Unix time that all in it gets: the same folder makes the same file.
    """
    for debs in (folder / "deb").iterdir():
        (debs / "Packages").write_text(_index(debs))
    sums = folder / "SHA256SUMS"
    sums.unlink(missing_ok=True)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums.write_text("".join(f"{sha256_of(path)}  {path.relative_to(folder)}\n" for path in files))
    out.mkdir(parents=True, exist_ok=True)
    return _tar(folder, out / f"{folder.name}.tar", made_at_s)


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _index(debs: Path) -> str:
    """Return what apt reads of a folder with packages."""
    paragraphs = []
    for package in sorted(debs.glob("*.deb")):
        control = run(["dpkg-deb", "--field", package]).strip()
        size_bytes = package.stat().st_size
        paragraphs.append(
            f"{control}\nFilename: ./{package.name}\nSize: {size_bytes}\n"
            f"SHA256: {sha256_of(package)}\n"
        )
    return "\n".join(paragraphs)


def _tar(folder: Path, target: Path, made_at_s: int) -> Path:
    def settled(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        member.mtime = made_at_s
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        return member

    making = target.with_suffix(".making")
    with tarfile.open(making, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in [folder, *sorted(folder.rglob("*"))]:
            name = str(path.relative_to(folder.parent))
            archive.add(path, arcname=name, recursive=False, filter=settled)
    return making.rename(target)
