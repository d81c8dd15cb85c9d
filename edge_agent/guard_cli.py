"""edge-guard's command line: the program of a dock that keeps it off the internet."""

import argparse
import grp
import ipaddress
import json
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Final

import msgspec

from edge_agent import guard_usb_cli as usb
from edge_agent.adapters.guard_link import read_word
from edge_agent.adapters.guard_service import Guard, GuardService
from edge_agent.adapters.net_facts import NetFacts
from edge_agent.adapters.nft_table import NftTable
from edge_agent.adapters.radios import RFKILL, Radios
from edge_agent.adapters.status_text import printable
from edge_agent.errors import EdgeError, GuardError
from edge_agent.guard.breaches import Breach, Kind, breaches
from edge_agent.guard.policy import Packet, Policy, Transport, decide, problems
from edge_agent.guard.ruleset import as_nftables
from edge_agent.guard.usb_door import problems as door_problems
from edge_agent.guard_config import GuardConfig, door_policy_of, known_hosts, policy_of
from edge_agent.mounting.port_paths import PortPath, parse_port
from runtime.errors import RuntimeFault, SettingsError
from runtime.logs import configure
from runtime.service import notify
from runtime.settings import load_toml

_DEFAULT_CONFIG: Final = Path("/etc/bayward/edge.toml")
_GROUP: Final = "bayward-edge"
_PROBLEM: Final = 1
_BREACHED: Final = 3
_ANY_PORT: Final = 40_000
_EXAMPLES: Final = """\
examples:
  edge-guard check-config                      whether the [guard] table is one that can be obeyed
  edge-guard audit                             one look: a line for each breach
  edge-guard audit --json
  edge-guard explain --to 8.8.8.8 --port 53 --protocol udp
  edge-guard explain --from 192.168.10.9 --port 22
  edge-guard explain --usb 1-2                 what is plugged in there
  edge-guard open-port --minutes 30 1-2        lets a technician's device in; as root
  edge-guard open-port --minutes 0 1-2         closes it again
  edge-guard rules | less                      the table of nftables, as it is loaded
  edge-guard apply                             loads it once; `run` keeps it
  edge-guard status                            what the running edge-guard says
  edge-guard run                               as the systemd unit does; as root

exit status:
  0  done; the rule holds
  1  it cannot do its work; the reason is the last line
  2  the command line is wrong
  3  audit, status: the rule is broken. explain: it is refused
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run edge-guard; see ``--help``."""
    options = _parser().parse_args(arguments)
    try:
        config = load_toml(options.config, GuardConfig)
        policy = policy_of(config, options.config, hosts=known_hosts())
        act: Callable[[argparse.Namespace, GuardConfig, Policy], int] = options.act
        return act(options, config, policy)
    except (SettingsError, RuntimeFault, EdgeError) as error:
        print(f"edge-guard: {error.code}: {error}", file=sys.stderr)
    except (OSError, ValueError) as error:
        print(f"edge-guard: {error}", file=sys.stderr)
    return _PROBLEM


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-guard",
        description="Keeps a dock off the internet, and says so when somebody tries.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EXAMPLES,
    )
    parser.add_argument("--config", type=Path, default=_DEFAULT_CONFIG, help="default: %(default)s")
    parser.add_argument("--rfkill", type=Path, default=RFKILL, help=argparse.SUPPRESS)
    parser.add_argument("--sysfs", type=Path, default=usb.SYSFS, help=argparse.SUPPRESS)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    for name, act, what in (
        ("run", _run, "keep the rule until SIGTERM"),
        ("check-config", _check, "look whether the configuration can be obeyed"),
        ("apply", _apply, "load the table once"),
        ("rules", _rules, "print the table"),
    ):
        verbs.add_parser(name, help=what).set_defaults(act=act)
    for name, reader, what in (
        ("audit", _audit, "look once, change nothing"),
        ("status", _status, "ask the running edge-guard"),
    ):
        verb = verbs.add_parser(name, help=what)
        verb.add_argument("--json", action="store_true", help="for programs")
        verb.set_defaults(act=reader)
    _add_explain(verbs.add_parser("explain", help="which rule lets something in or out, or not"))
    opening = verbs.add_parser("open-port", help="let everything in at one USB port, for a while")
    opening.add_argument("--minutes", type=usb.minutes_of, required=True, metavar="N")
    opening.add_argument("port", type=_port, metavar="PORT", help="as under /sys/bus/usb/devices")
    opening.set_defaults(act=_open_port)
    return parser


def _add_explain(parser: argparse.ArgumentParser) -> None:
    other = parser.add_mutually_exclusive_group(required=True)
    other.add_argument("--to", type=ipaddress.ip_address, metavar="ADDRESS")
    other.add_argument("--from", type=ipaddress.ip_address, metavar="ADDRESS", dest="from_")
    other.add_argument("--usb", type=_port, metavar="PORT", help="what is plugged in there")
    parser.add_argument("--port", type=int, default=0, help="the one that is called")
    kinds = [one.value for one in Transport]
    parser.add_argument("--protocol", choices=kinds, default="tcp", help="default: tcp")
    parser.add_argument("--interface", help="default: the station's first")
    parser.set_defaults(act=_explain)


def _port(text: str) -> PortPath:
    port = parse_port(text)
    if port is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no USB port, such as 1-2 or 1-2.4")
    return port


def _open_port(options: argparse.Namespace, config: GuardConfig, _policy: Policy) -> int:
    usb.open_port(config, options.port, minutes=options.minutes)
    return 0


def _usable(policy: Policy) -> None:
    """Raise GuardError for a policy that must not be obeyed."""
    if found := problems(policy):
        raise GuardError(f"this configuration is refused: {'; '.join(found)}")


def _check(_options: argparse.Namespace, config: GuardConfig, policy: Policy) -> int:
    door = door_policy_of(config)
    found = (*problems(policy), *(() if door is None else door_problems(door)))
    for problem in found:
        print(f"✗ {problem}")
    if found:
        return _PROBLEM
    for peer in policy.peers:
        print(f"✓ {peer.name}: {peer.transport.value} {peer.address} port {peer.port}")
    print(f"✓ ssh: {policy.ssh_from or 'from nobody'}")
    print(f"✓ interfaces: {', '.join(policy.interfaces)}")
    print(f"✓ networks: {', '.join(map(str, policy.networks))}")
    for line in usb.describe(door):
        print(line)
    if config.guard.dry_run:
        print("! dry_run: nothing is refused and nothing is shut, and every manifest says so")
    return 0


def _apply(_options: argparse.Namespace, _config: GuardConfig, policy: Policy) -> int:
    _usable(policy)
    print(f"loaded: sha256 {NftTable(policy).load()}")
    return 0


def _rules(_options: argparse.Namespace, _config: GuardConfig, policy: Policy) -> int:
    print(as_nftables(policy, frames_of=policy.interfaces))
    return 0


def _audit(options: argparse.Namespace, config: GuardConfig, policy: Policy) -> int:
    table = NftTable(policy)
    found = breaches(policy, NetFacts().look(is_table_ours=True))
    if table.digest() is None:
        text = "there is no table of rules: is edge-guard running?"
        found = (Breach(kind=Kind.TABLE_CHANGED, subject="nftables", text=text), *found)
    door = usb.gate_of(config, options.sysfs)
    if door is not None:
        found = (*found, *door.look(datetime.now(UTC), enforced=False).found)
    told = None if door is None else door.told
    if options.json:
        breached = [{"code": one.kind.value, "text": one.text} for one in found]
        said = {"holding": not found, "breaches": breached, "door": msgspec.to_builtins(told)}
        print(json.dumps(said, ensure_ascii=False))
        return _BREACHED if found else 0
    for one in found:
        print(f"✗ {one.kind.value} {printable(one.text)}")
    if not found:
        print("✓ holding: nothing breaks the rule")
    usb.show(told)
    return _BREACHED if found else 0


def _status(options: argparse.Namespace, config: GuardConfig, _policy: Policy) -> int:
    word = read_word(config.guard.socket)
    if options.json:
        print(json.dumps(msgspec.to_builtins(word), ensure_ascii=False))
    else:
        enforced = "" if word.enforced else ", in a dry run: NOTHING IS REFUSED"
        print(f"{word.isolation.value} since {word.since:%Y-%m-%d %H:%M:%S} UTC{enforced}")
        if word.enforced and not word.refuses_frames:
            print("! what packet sockets send is not refused: this kernel has no hook for it")
        for one in word.open:
            print(f"✗ {one.code} {printable(one.text)}")
        closed = [one for one in word.incident if one not in word.open]
        for one in closed:
            print(f"! it was: {one.code} {printable(one.text)}")
        usb.show(word.door)
    return _BREACHED if word.open or not word.enforced else 0


def _explain(options: argparse.Namespace, config: GuardConfig, policy: Policy) -> int:
    if options.usb is not None:
        return _BREACHED if usb.explain(config, options.usb, sysfs=options.sysfs) else 0
    is_outgoing = options.to is not None
    other = options.to or options.from_
    has_ports = options.protocol in {Transport.TCP.value, Transport.UDP.value}
    packet = Packet(
        is_outgoing=is_outgoing,
        interface=options.interface or policy.interfaces[0],
        source=other,
        destination=other,
        transport=Transport(options.protocol),
        source_port=_ANY_PORT if has_ports else 0,
        destination_port=options.port if has_ports else 0,
    )
    decision = decide(policy, packet)
    where = f"{'to' if is_outgoing else 'from'} {other} by {packet.interface}"
    what = f"{options.protocol} {f'port {options.port} ' if has_ports else ''}{where}"
    print(f"{'passes' if decision.passes else 'is refused'}: {what}: {decision.because}")
    return 0 if decision.passes else _BREACHED


def _run(options: argparse.Namespace, config: GuardConfig, policy: Policy) -> int:
    configure(json=True, level="info")
    _usable(policy)
    usb.usable(door_policy_of(config))
    guard = Guard(
        policy,
        NftTable(policy),
        NetFacts(),
        clock=lambda: datetime.now(UTC),
        enforced=not config.guard.dry_run,
        door=usb.gate_of(config, options.sysfs),
        radios=Radios(options.rfkill),
    )
    guard.load()
    guard.look()
    config.guard.socket.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    service = GuardService(guard, config.guard.socket, reader_gid=_group())

    def stop(_number: int, _frame: FrameType | None) -> None:
        service.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    notify("READY=1")
    service.run(alive=lambda: notify("WATCHDOG=1"))
    # The table stays, and the door stays shut: who ends this program opens no way.
    notify("STOPPING=1")
    return 0


def _group() -> int | None:
    try:
        return grp.getgrnam(_GROUP).gr_gid
    except KeyError:
        return None


if __name__ == "__main__":
    sys.exit(main())
