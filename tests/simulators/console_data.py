"""A site as the console finds it: a filled catalogue, and bags in an archive.

What is signed is signed for real, and the tables are the catalogue's own; only the programs that
would have written them are not here.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, create_engine, insert

from protocol import strict_json
from protocol.attestation import Broken, Occasion
from protocol.chain import GENESIS, ChainHead
from protocol.digest import ZERO_DIGEST, Digests, sha256_hex
from protocol.envelope import sign_statement
from protocol.identifiers import (
    BayNumber,
    DockId,
    DockingId,
    ManifestId,
    OfficerId,
    ReceiptId,
    RecorderId,
    RecordingId,
    mint_uuid7,
)
from protocol.keys import SigningKey
from protocol.manifest import (
    Clip,
    ClipKind,
    ClockFacts,
    DateBasis,
    EvidenceLevel,
    FileName,
    Isolation,
    Manifest,
    RecorderFacts,
    Recording,
    StagedFile,
)
from protocol.receipt import ArchivedBag, Receipt
from protocol.registry import DockEntry, OfficerEntry, RecorderEntry, Registry
from protocol.versions import Statement
from scripts.samples import attestation
from server_agent.catalogue import tables

ARCHIVE_KEY: Final = SigningKey(Ed25519PrivateKey.from_private_bytes(b"archive".ljust(32)))
DOCK_KEY: Final = SigningKey(Ed25519PrivateKey.from_private_bytes(b"dock".ljust(32)))

DOCK: Final = DockId("dock-1")
OTHER_DOCK: Final = DockId("dock-2")
OFFICERS: Final[Mapping[str, str]] = {
    "012301": "张伟",
    "012302": "王秀英",
    "012303": "欧阳建国",
    "012304": "李娜",
    "012305": "刘洋",
    "012306": "陈静怡",
}
RECORDERS: Final[Mapping[str, str]] = {
    f"R-000{number}": officer for number, officer in enumerate(OFFICERS, start=1)
}
MODEL: Final = "DSJ-A8"
FIRST_DAY: Final = date(2026, 11, 20)

_SHANGHAI_BEHIND: Final = timedelta(hours=8)


def uuid7(kind: int, number: int) -> str:
    """Return an id that is the same each time: *kind* and *number* make it."""
    entropy = bytes([kind]) + number.to_bytes(9, "big")
    return mint_uuid7(unix_ms=1_790_000_000_000 + number, entropy=entropy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filed:
    """One recording that the simulator archived: where its clips lie, and who recorded it."""

    recording_id: str
    recorder: str
    officer: str
    day: date
    bag: Path
    bag_path: str
    file_ids: tuple[int, ...]
    sha256: tuple[str, ...]


@dataclass(kw_only=True)
class FilledSite:
    """The folders that the console reads, and what is in them."""

    root: Path
    archive: Path
    catalogue: Path
    filed: list[Filed] = field(default_factory=list)


def fill_site(
    root: Path,
    *,
    recordings: int = 6,
    clip: bytes = b"no footage, but bytes",
    with_alerts: bool = True,
) -> FilledSite:
    """Make a catalogue and an archive below *root*.

    Args:
        root: An existing folder.
        recordings: How many; recorders, officers and days alternate, the newest is number 1.
        clip: The content of every clip; a number is appended, so that each has its own digest.
        with_alerts: Whether there are alerts, refused messages and the like.
    """
    site = FilledSite(root=root, archive=root / "archive", catalogue=root / "catalogue.sqlite")
    site.archive.mkdir()
    engine = create_engine(f"sqlite:///{site.catalogue}")
    tables.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        connection.execute(insert(tables.registries), [_registry_row()])
        for number in range(1, recordings + 1):
            site.filed.append(_file_recording(connection, site, number, clip))
        if with_alerts:
            add_alerts(connection)
            _add_refused(connection)
    engine.dispose()
    return site


def add_alerts(connection: Connection, *, start: int = 1) -> None:
    """Put an evening's alerts into the catalogue; *start* numbers the first."""
    at = datetime(2026, 11, 23, 10, 4, 11, tzinfo=UTC)
    told: Sequence[tuple[str, int | None, str | None, str, dict[str, str]]] = (
        ("F-ADM-008", 6, None, "not registered", {"model": "DSJ-V2", "serial": "V2-88231907"}),
        ("F-FOR-001", 2, "R-0002", "foreign file", {"path": "autorun.inf"}),
        ("F-ING-003", 4, "R-0004", "recorder left", {"files": "3"}),
        ("E-XYZ-999", None, None, "a code of a newer release\u202e", {"odd": "value"}),
    )
    connection.execute(
        insert(tables.alerts),
        [
            {
                "alert_id": uuid7(7, start + number),
                "dock": DOCK,
                "bay": bay,
                "recorder": recorder,
                "code": code,
                "text": text,
                "facts": facts,
                "raised_at": at - timedelta(minutes=17 * number),
                "received_at": at - timedelta(minutes=17 * number),
            }
            for number, (code, bay, recorder, text, facts) in enumerate(told)
        ],
    )


def add_attestations(
    site: FilledSite, count: int, *, at: datetime, dock: str = DOCK
) -> list[bytes]:
    """Put attestations of so many days into the catalogue, the last one at *at*; return them.

    On the last day but one a route led out of the station.
    """
    sent: list[bytes] = []
    head = GENESIS
    rows: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        made_at = at - timedelta(days=count - number)
        facts: dict[str, Any] = {"isolation": Isolation.HOLDING, "occasion": Occasion.DAILY}
        if number == count - 1:
            route = Broken(
                code="E-ISO-102",
                subject="default",
                text="<i>default</i> via 10.0.0.1",
                began_at=made_at - timedelta(hours=1),
                ended_at=made_at - timedelta(minutes=59),
            )
            facts = {
                "isolation": Isolation.RESTORED,
                "occasion": Occasion.CHANGED,
                "broken": (route,),
            }
        one = attestation(head, dock=dock, made_at=made_at, **facts)
        envelope = sign_statement(one, Statement.ATTESTATION, DOCK_KEY)
        head = ChainHead(sequence=number, payload_sha256=sha256_hex(strict_json.encode(one)))
        sent.append(envelope)
        rows.append(
            {
                "dock": dock,
                "sequence": number,
                "payload_sha256": head.payload_sha256,
                "key_id": DOCK_KEY.key_id,
                "envelope": envelope,
                "made_at": made_at,
                "received_at": made_at + timedelta(seconds=2),
                "occasion": one.occasion.value,
                "isolation": one.isolation.value,
            }
        )
    engine = create_engine(f"sqlite:///{site.catalogue}")
    with engine.begin() as connection:
        connection.execute(insert(tables.attestations), rows)
    engine.dispose()
    return sent


def _add_refused(connection: Connection) -> None:
    connection.execute(
        insert(tables.refused_messages),
        [
            {
                "received_at": datetime(2026, 11, 22, 9, 0, tzinfo=UTC),
                "topic": "bayward/v1/docks/dock-9/manifests",
                "sha256": sha256_hex(b"refused"),
                "code": "F-ADM-001",
                "detail": "dock-9",
                "body": b"refused",
                "times": 2,
            }
        ],
    )


def _registry_row() -> dict[str, Any]:
    registry = Registry(
        version=7,
        issued_at=datetime(2026, 11, 20, 1, 0, tzinfo=UTC),
        docks=(
            DockEntry(dock=DOCK, name="一楼值班室采集站", signing_key=DOCK_KEY.public.spki_der),
            DockEntry(dock=OTHER_DOCK, name="二楼采集站", signing_key=DOCK_KEY.public.spki_der),
        ),
        officers=tuple(
            OfficerEntry(officer=OfficerId(number), name=name, section="审计一科")
            for number, name in OFFICERS.items()
        ),
        recorders=tuple(
            RecorderEntry(
                recorder=RecorderId(recorder),
                make="Example",
                model=MODEL,
                serial=f"A8-{recorder[-4:]}",
                officer=OfficerId(officer),
            )
            for recorder, officer in RECORDERS.items()
        ),
    )
    return {
        "version": registry.version,
        "content_sha256": sha256_hex(strict_json.encode(registry)),
        "issued_at": registry.issued_at,
        "envelope": sign_statement(registry, Statement.REGISTRY, ARCHIVE_KEY),
    }


def _recording(number: int, clips: Sequence[bytes]) -> Recording:
    officer = list(OFFICERS)[number % len(OFFICERS)]
    started = datetime.combine(
        FIRST_DAY + timedelta(days=3 - number % 4), datetime.min.time()
    ) + timedelta(hours=8 + number % 10, minutes=7 * number % 60, seconds=number % 60)
    return Recording(
        recording_id=RecordingId(uuid7(1, number)),
        clips=tuple(
            Clip(
                file=StagedFile(
                    name=FileName(
                        path=f"DCIM/100MEDIA/{officer}_{number:07d}_"
                        f"{started:%Y%m%d%H%M%S}_{part:04d}{'IMP' if number % 3 == 0 else ''}.MP4"
                    ),
                    size_bytes=len(clip),
                    mtime_ns=0,
                    digests=Digests(sha256=sha256_hex(clip), sm3=_sm3(clip)),
                    evidence=EvidenceLevel.L2,
                ),
                kind=ClipKind.VIDEO,
                sequence=part,
                started=started + timedelta(minutes=5 * (part - 1)),
                marked=number % 3 == 0,
            )
            for part, clip in enumerate(clips, start=1)
        ),
        recorded_on=started.date(),
        date_basis=DateBasis.CORRECTED_CLOCK,
        started=started,
        officer=OfficerId(officer),
    )


def _sm3(content: bytes) -> str:
    return hashlib.new("sm3", content).hexdigest()


def _manifest(number: int, recording: Recording) -> Manifest:
    started = recording.started or datetime(2026, 11, 20)  # noqa: DTZ001 -- a recorder's clock has no zone
    docked_at = (started + timedelta(hours=5) - _SHANGHAI_BEHIND).replace(tzinfo=UTC)
    recorder = list(RECORDERS)[number % len(RECORDERS)]
    return Manifest(
        manifest_id=ManifestId(uuid7(2, number)),
        dock=DOCK,
        sequence=number,
        previous_sha256=ZERO_DIGEST if number == 1 else sha256_hex(b"%d" % number),
        sealed_at=docked_at + timedelta(minutes=9),
        docking_id=DockingId(uuid7(3, number)),
        part=1,
        last_part=True,
        docked_at=docked_at,
        ended_at=docked_at + timedelta(minutes=9),
        bay=BayNumber(1 + number % 8),
        recorder=RecorderFacts(
            recorder_id=RecorderId(recorder),
            make="Example",
            model=MODEL,
            serial=f"A8-{recorder[-4:]}",
            profile="dsj-a8",
            battery_percent=64,
        ),
        officer=recording.officer,
        clock=ClockFacts(dock_time=docked_at, timezone="Asia/Shanghai", drift_ms=-12_400),
        isolation=Isolation.HOLDING,
        evidence_level=EvidenceLevel.L2,
        agent="edge-agent 0.1.0",
        recordings=(recording,),
    )


def _file_recording(connection: Connection, site: FilledSite, number: int, clip: bytes) -> Filed:
    clips = [clip + b"\0%d.%d" % (number, part) for part in range(1, 2 + number % 3)]
    recording = _recording(number, clips)
    manifest = _manifest(number, recording)
    bag_path = f"{recording.recorded_on:%Y/%m/%d}/_unfiled/{recording.recording_id}"
    bag = site.archive / bag_path
    names = _write_bag(bag, recording, clips)
    bag_sha256 = sha256_hex(bag_path.encode())
    receipt = _receipt(number, manifest, bag_path, bag_sha256, clips)
    _add_manifest(connection, manifest, receipt)
    bag_id = connection.execute(
        insert(tables.bags).returning(tables.bags.c.bag_id),
        {
            "path": bag_path,
            "tagmanifest_sha256": bag_sha256,
            "files": len(clips),
            "size_bytes": sum(map(len, clips)),
            "archived_at": receipt.archived_at,
        },
    ).scalar_one()
    group_id = connection.execute(
        insert(tables.groups).returning(tables.groups.c.group_id),
        {
            "manifest_id": manifest.manifest_id,
            "recording_id": recording.recording_id,
            "dock": DOCK,
            "recorder": manifest.recorder.recorder_id,
            "officer": recording.officer,
            "recorded_on": recording.recorded_on,
            "started": recording.started,
            "marked": recording.marked,
            "complete": True,
            "existing": False,
            "bag_id": bag_id,
        },
    ).scalar_one()
    file_ids = _add_files(connection, manifest, recording, group_id, names)
    return Filed(
        recording_id=recording.recording_id,
        recorder=manifest.recorder.recorder_id,
        officer=str(recording.officer),
        day=recording.recorded_on,
        bag=bag,
        bag_path=bag_path,
        file_ids=file_ids,
        sha256=tuple(one.file.digests.sha256 for one in recording.clips),
    )


def _add_manifest(connection: Connection, manifest: Manifest, receipt: Receipt) -> None:
    connection.execute(
        insert(tables.manifests),
        [
            {
                "manifest_id": manifest.manifest_id,
                "dock": DOCK,
                "sequence": manifest.sequence,
                "payload_sha256": sha256_hex(strict_json.encode(manifest)),
                "envelope": sign_statement(manifest, Statement.MANIFEST, DOCK_KEY),
                "state": "archived",
                "docking_id": manifest.docking_id,
                "part": manifest.part,
                "bay": manifest.bay,
                "recorder": manifest.recorder.recorder_id,
                "officer": manifest.officer,
                "received_at": manifest.sealed_at,
                "archived_at": receipt.archived_at,
                "receipt": sign_statement(receipt, Statement.RECEIPT, ARCHIVE_KEY),
            }
        ],
    )


def _write_bag(bag: Path, recording: Recording, clips: Sequence[bytes]) -> list[str]:
    (bag / "data").mkdir(parents=True)
    (bag / "bagit.txt").write_text("BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n")
    names = [one.file.name.path.rpartition("/")[2] for one in recording.clips]
    for name, content in zip(names, clips, strict=True):
        (bag / "data" / name).write_bytes(content)
    lines = [f"{sha256_hex(c)}  data/{n}\n" for n, c in zip(names, clips, strict=True)]
    (bag / "manifest-sha256.txt").write_text("".join(lines))
    return names


def _receipt(
    number: int, manifest: Manifest, bag_path: str, bag_sha256: str, clips: Sequence[bytes]
) -> Receipt:
    return Receipt(
        receipt_id=ReceiptId(uuid7(4, number)),
        manifest_id=manifest.manifest_id,
        dock=DOCK,
        sequence=number,
        payload_sha256=sha256_hex(strict_json.encode(manifest)),
        archived_at=manifest.sealed_at + timedelta(minutes=2),
        bags=(
            ArchivedBag(
                recording_id=manifest.recordings[0].recording_id,
                path=bag_path,
                tagmanifest_sha256=bag_sha256,
                files=len(clips),
                size_bytes=sum(map(len, clips)),
            ),
        ),
    )


def _add_files(
    connection: Connection,
    manifest: Manifest,
    recording: Recording,
    group_id: int,
    names: Iterable[str],
) -> tuple[int, ...]:
    return tuple(
        connection.execute(
            insert(tables.files).returning(tables.files.c.file_id),
            {
                "group_id": group_id,
                "manifest_id": manifest.manifest_id,
                "recorder": manifest.recorder.recorder_id,
                "position": position,
                "path": clip.file.name.path,
                "safe_name": name,
                "size_bytes": clip.file.size_bytes,
                "mtime_ns": 0,
                "sha256": clip.file.digests.sha256,
                "sm3": clip.file.digests.sm3,
                "kind": clip.kind.value,
                "sequence": clip.sequence,
                "started": clip.started,
                "marked": clip.marked,
                "state": "archived",
            },
        ).scalar_one()
        for position, (clip, name) in enumerate(zip(recording.clips, names, strict=True))
    )


def console_toml(site: FilledSite, *, mqtt_port: int, tls: Mapping[str, Path] | None = None) -> str:
    """Return a console.toml for the site; it listens on a free port of this machine."""
    lines = [
        '[listen]\nhost = "127.0.0.1"\nport = 0\n',
        f'[catalogue]\nurl = "sqlite+aiosqlite:///{site.catalogue.name}"\n',
        '[archive]\nroot = "archive"\n',
        '[access]\ndatabase = "access.sqlite"\n',
        f'[mqtt]\nhost = "127.0.0.1"\nport = {mqtt_port}\n',
        "[log]\njson = false\n",
    ]
    if tls is not None:
        lines += ["[mqtt.tls]", *(f'{key} = "{path}"' for key, path in tls.items()), ""]
    return "\n".join(lines)
