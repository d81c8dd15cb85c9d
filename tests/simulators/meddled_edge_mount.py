"""edge-mount, and somebody who does something to a recorder at a moment of its work.

Only its own calls say which moment it is: the first argument is an object of JSON from a moment,
as in ``bay_erasing._read_anew:1`` (module, function, the how manieth call), to the commands of a
shell that are run right before that call, in edge-mount's own mount namespace.
"""

import importlib
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from edge_agent.mount_cli import main


def meddle(moment: str, commands: str) -> None:
    """Have the commands run at that moment."""
    place, _, number = moment.rpartition(":")
    module_name, _, function = place.rpartition(".")
    module = importlib.import_module(f"edge_agent.adapters.{module_name}")
    original: Callable[..., Any] = getattr(module, function)
    calls = itertools.count(1)

    def meddled(*arguments: Any, **named: Any) -> Any:
        if next(calls) == int(number):
            subprocess.run(["sh", "-e", "-c", commands], check=True)
        return original(*arguments, **named)

    setattr(module, function, meddled)


if __name__ == "__main__":
    for one in json.loads(sys.argv[1]).items():
        meddle(*one)
    sys.exit(main(sys.argv[2:]))
