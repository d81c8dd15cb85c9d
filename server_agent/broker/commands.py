"""``server-agent broker-config``: write mosquitto's configuration and access list."""

import argparse
import sys
from pathlib import Path
from typing import Final

from runtime.durable import make_directories, replace_file
from server_agent.broker.configuration import BrokerSettings, acl, mosquitto_conf

_FILE_MODE: Final = 0o644
_FOLDER_MODE: Final = 0o755
_DATA_MODE: Final = 0o700

_ABOUT: Final = """\
Write mosquitto.conf and acl for the site's broker. Nobody connects without a certificate of the
site's authority, and each dock writes its own topics only. Docks need not be named here.
"""
_EXAMPLES: Final = """\
examples:
  server-agent broker-config --pki /var/lib/bayward/pki --out /var/lib/bayward/broker \\
      --host 192.168.10.2 --data /var/lib/mosquitto
  mosquitto -c /var/lib/bayward/broker/mosquitto.conf
mosquitto reads the broker's private key as the user that it runs as. With the unit of this package:
  chgrp bayward /var/lib/bayward/pki/broker/tls.key
  chmod 0640 /var/lib/bayward/pki/broker/tls.key
"""


def add_broker_commands(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add ``broker-config`` to a program's commands; it sets ``run``, which takes the arguments.

    ``run`` returns the exit status: 0, or 1 after it said on standard error what went wrong.
    """
    parser = subparsers.add_parser(
        "broker-config",
        help="write the broker's configuration",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pki", type=Path, required=True, help="the folder of `server-agent pki`")
    parser.add_argument("--out", type=Path, required=True, help="where the two files go")
    parser.add_argument(
        "--host", default="127.0.0.1", help="the address to listen on (%(default)s)"
    )
    parser.add_argument("--port", type=int, default=8883, help="the port (%(default)s)")
    parser.add_argument(
        "--data", type=Path, help="where the broker keeps sessions over a restart (OUT/data)"
    )
    parser.add_argument(
        "--run-as",
        metavar="USER",
        help="what mosquitto becomes when root starts it (mosquitto); `root` for trying it out",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    pki, out = arguments.pki.absolute(), arguments.out.absolute()
    data = arguments.data.absolute() if arguments.data else out / "data"
    settings = BrokerSettings(
        host=arguments.host,
        port=arguments.port,
        ca=pki / "ca.pem",
        certificate=pki / "broker/tls.pem",
        key=pki / "broker/tls.key",
        acl=out / "acl",
        data=data,
        run_as=arguments.run_as,
    )
    missing = [
        str(path)
        for path in (settings.ca, settings.certificate, settings.key)
        if not Path(path).is_file()
    ]
    if missing:
        return _failed(f"{', '.join(missing)}: not there; `server-agent pki init` makes them")
    try:
        configuration = mosquitto_conf(settings)
    except ValueError as error:
        return _failed(str(error))
    make_directories(out, mode=_FOLDER_MODE)
    make_directories(data, mode=_DATA_MODE)
    for path, text in ((out / "acl", acl()), (out / "mosquitto.conf", configuration)):
        replace_file(path, text.encode(), mode=_FILE_MODE)
        sys.stdout.write(f"wrote  {path}\n")
    return 0


def _failed(problem: str) -> int:
    sys.stderr.write(f"broker-config: {problem}\n")
    return 1
