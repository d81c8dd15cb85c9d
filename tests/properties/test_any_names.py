"""Whatever bytes a recorder calls its files, from its volume to the names in the archive."""

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.ports import OutcomeKind
from protocol.manifest import Manifest, exact_path
from server_agent.archive.names import is_safe_name, safe_names
from tests.simulators.docking_site import MORNING, clip_path, open_site, recording
from tests.simulators.memory_volume import MemoryVolume, Stored

GOOD: Final = clip_path(MORNING, 1)
# What Linux takes for one component of a path.
COMPONENTS: Final = (
    st.binary(min_size=1, max_size=40)
    .map(lambda raw: raw.replace(b"\0", b"?").replace(b"/", b"?"))
    .filter(lambda raw: raw not in {b".", b".."})
)
PATHS: Final = st.lists(COMPONENTS, min_size=1, max_size=4).map(b"/".join)


def without_folders(paths: set[bytes]) -> set[bytes]:
    """Return *paths* less those that are also folders: no file system has both."""
    return {path for path in paths if not any(one.startswith(path + b"/") for one in paths)}


async def docked(files: Mapping[bytes, Stored]) -> tuple[OutcomeKind, list[Manifest]]:
    with tempfile.TemporaryDirectory() as folder:
        async with open_site(Path(folder) / "journal.sqlite") as site:
            outcome = await site.dock(MemoryVolume(files=dict(files)))
            return outcome.kind, await site.manifests()


@given(paths=st.sets(PATHS, max_size=12).map(without_folders))
@settings(max_examples=60)
def test_every_file_is_claimed_by_its_exact_name(paths: set[bytes]) -> None:
    """Each file is claimed or listed as not taken, byte for byte as it is called; none is lost."""
    others = {path: Stored(content=b"content of " + path) for path in paths}
    kind, manifests = asyncio.run(docked(recording() | others))

    staged = [file.name for manifest in manifests for file in manifest.staged_files()]
    left = [entry.name for manifest in manifests for entry in manifest.not_taken]
    names = [exact_path(name) for name in (*staged, *left)]
    safe = safe_names(staged)
    assert kind is OutcomeKind.SEALED
    assert sorted(names) == sorted({GOOD, *paths})
    assert all(map(is_safe_name, safe))
    assert len({name.casefold() for name in safe}) == len(staged)
