"""A good bag in an archive, to be made bad."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from protocol.findings import FindingCode
from server_agent.adapters.bag_verifier import verify_bag
from server_agent.archive.verification import BagReport
from tests.simulators.bag_site import BagSite, build_site


@dataclass(frozen=True, slots=True, kw_only=True)
class Bagged:
    """A good bag that may be changed, and the site that it is of."""

    path: Path
    site: BagSite

    def codes(self) -> list[FindingCode]:
        return [found.code for found in self.report().findings]

    def report(self) -> BagReport:
        return verify_bag(self.path, ca_pem=self.site.ca_pem)

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content)

    def replace(self, name: str, old: bytes, new: bytes) -> None:
        content = self.read(name)
        assert old in content
        self.write(name, content.replace(old, new, 1))

    def seal(self) -> None:
        """Make the tag manifest right again, as somebody would who hides a change."""
        names = [
            str(path.relative_to(self.path))
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and path.relative_to(self.path).parts[0] != "data"
        ]
        lines = [
            f"{hashlib.sha256(self.read(name)).hexdigest()}  {name}\n"
            for name in names
            if name != "tagmanifest-sha256.txt"
        ]
        self.write("tagmanifest-sha256.txt", "".join(lines).encode())


def bags_of(folder: Path, **how: object) -> Iterator[Bagged]:
    site = build_site(folder / "pki", **how)  # type: ignore[arg-type] # a test's own options
    for path in site.archive(folder / "archive"):
        for folder_ in [path, *(inner for inner in path.rglob("*") if inner.is_dir())]:
            folder_.chmod(0o755)
        yield Bagged(path=path, site=site)
