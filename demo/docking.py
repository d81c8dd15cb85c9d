"""Put a folder that stands for a recorder's volume into a bay, and pull it out again."""

import os
import shutil
import tempfile
from pathlib import Path


class DirectoryDock:
    """Bays that are folders, in which a volume appears and vanishes in one step, as a mount does.

    An empty bay is a folder that is absent or empty. While work is under way a hidden folder
    stands beside the bay's.
    """

    def insert(self, volume: Path, bay_dir: Path) -> None:
        """Let the content of *volume* appear at *bay_dir*, all at once; the volume stays.

        Files are hard links: changing one's bytes through the bay changes the volume, and both must
        be on one file system. Links, pipes and other odd things arrive as what they are.

        Raises:
            OSError: The bay is occupied, or linking failed; the bay is as it was.
        """
        bay_dir.parent.mkdir(parents=True, exist_ok=True)
        arriving = _beside(bay_dir, "arriving")
        try:
            shutil.copytree(
                volume, arriving, symlinks=True, copy_function=os.link, dirs_exist_ok=True
            )
            arriving.rename(bay_dir)
        except OSError:
            shutil.rmtree(arriving)
            raise

    def pull(self, bay_dir: Path) -> None:
        """Take the volume away in one step, whoever is reading it; then remove the bay's links.

        A file that is open stays readable to its reader to the end, unlike on a real stick; its
        path and every folder of the volume are gone.

        Raises:
            FileNotFoundError: Nothing was docked.
        """
        gone = _beside(bay_dir, "pulled")
        try:
            bay_dir.rename(gone)
        finally:
            shutil.rmtree(gone)


def _beside(bay_dir: Path, why: str) -> Path:
    return Path(tempfile.mkdtemp(prefix=f".{bay_dir.name}.{why}-", dir=bay_dir.parent))
