"""The catalogue's tables: what was claimed, what arrived, where it is archived.

Times are timezone-aware UTC; digests are hex, lower case. Migrations in
migrations/ make exactly these tables; a test compares the two.
"""

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Utc(TypeDecorator[datetime]):
    """A moment in UTC; SQLite keeps no zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment in UTC; a naive one would be a mistake of ours."""
        del dialect
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment with its zone put back."""
        del dialect
        return None if value is None else value.replace(tzinfo=UTC)


# A dock's chain as far as it was admitted.
docks: Final = Table(
    "docks",
    metadata,
    Column("dock", String(32), primary_key=True),
    Column("head_sequence", BigInteger, nullable=False),
    Column("head_sha256", String(64), nullable=False),
)

# state: waiting (predecessors missing), admitted, archived (receipt issued),
# refused (kept its place in the chain).
manifests: Final = Table(
    "manifests",
    metadata,
    Column("manifest_id", String(36), primary_key=True),
    Column("dock", String(32), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("payload_sha256", String(64), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False),
    Column("docking_id", String(36), nullable=False),
    Column("part", Integer, nullable=False),
    Column("bay", Integer, nullable=False),
    Column("recorder", String(32), nullable=False),
    Column("officer", String(32)),
    Column("received_at", Utc, nullable=False),
    Column("archived_at", Utc),
    Column("refusal_code", String(16)),
    Column("refusal_detail", Text),
    Column("receipt", LargeBinary),
    UniqueConstraint("dock", "sequence"),
    Index("ix_manifests_state", "state"),
    Index("ix_manifests_docking", "docking_id", "part"),
)

# One bag of the archive. path is relative to the archive's root.
# damaged_at: when it was found to be bad or gone; nothing is matched to it any more.
bags: Final = Table(
    "bags",
    metadata,
    Column("bag_id", Integer, primary_key=True),
    Column("path", Text, nullable=False, unique=True),
    Column("tagmanifest_sha256", String(64), nullable=False),
    Column("files", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("archived_at", Utc, nullable=False),
    Column("damaged_at", Utc),
)

# One recording of a manifest, or (recording_id null) the other files of a manifest.
# bag_id null: its bytes have not all arrived, or matched_bag_id names the bag that should have
# them and that has not been read again yet. existing: the bag was there before this manifest.
groups: Final = Table(
    "groups",
    metadata,
    Column("group_id", Integer, primary_key=True),
    Column("manifest_id", ForeignKey("manifests.manifest_id"), nullable=False),
    Column("recording_id", String(36), unique=True),
    Column("dock", String(32), nullable=False),
    Column("recorder", String(32), nullable=False),
    Column("officer", String(32)),
    Column("recorded_on", Date, nullable=False),
    Column("started", DateTime(timezone=False)),
    Column("marked", Boolean, nullable=False),
    Column("complete", Boolean, nullable=False),
    Column("existing", Boolean, nullable=False, default=False),
    Column("bag_id", ForeignKey("bags.bag_id")),
    Column("matched_bag_id", ForeignKey("bags.bag_id")),
    Index("ix_groups_manifest", "manifest_id"),
    Index("ix_groups_day", "recorded_on", "recorder"),
    Index("ix_groups_officer", "officer", "recorded_on"),
    Index("ix_groups_recorder", "recorder", "recorded_on"),
    Index("ix_groups_bag", "bag_id"),
    Index("ix_groups_matched", "matched_bag_id"),
)

# One file that a manifest promises. safe_name is its name below data/ in its bag.
# state: missing (bytes wanted), matched (not wanted unless the matched bag is bad),
# arrived (complete in .incoming, digest right), archived (in a bag, read back).
files: Final = Table(
    "files",
    metadata,
    Column("file_id", Integer, primary_key=True),
    Column("group_id", ForeignKey("groups.group_id"), nullable=False),
    Column("manifest_id", ForeignKey("manifests.manifest_id"), nullable=False),
    Column("recorder", String(32), nullable=False),
    Column("position", Integer, nullable=False),
    Column("path", Text, nullable=False),
    Column("raw_path", LargeBinary),
    Column("safe_name", String(255), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("sm3", String(64)),
    Column("kind", String(8)),
    Column("sequence", Integer),
    Column("started", DateTime(timezone=False)),
    Column("marked", Boolean, nullable=False),
    Column("state", String(16), nullable=False),
    Index("ix_files_group", "group_id"),
    Index("ix_files_content", "recorder", "sha256"),
    Index("ix_files_manifest", "manifest_id", "sha256"),
)

# What came in and was not admitted: kept byte for byte, counted, shown.
refused_messages: Final = Table(
    "refused_messages",
    metadata,
    Column("message_id", Integer, primary_key=True),
    Column("received_at", Utc, nullable=False),
    Column("topic", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("code", String(16), nullable=False),
    Column("detail", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("times", Integer, nullable=False, default=1),
    UniqueConstraint("sha256", "topic", "code"),
)

# Alerts of docks and of the archive itself, about a dock or (dock null) about itself.
# over_at: when what it was about had passed by itself.
alerts: Final = Table(
    "alerts",
    metadata,
    Column("alert_id", String(36), primary_key=True),
    Column("dock", String(32)),
    Column("bay", Integer),
    Column("recorder", String(32)),
    Column("code", String(16), nullable=False),
    Column("text", Text, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("raised_at", Utc, nullable=False),
    Column("received_at", Utc, nullable=False),
    Column("over_at", Utc),
    Index("ix_alerts_raised", "raised_at"),
)

# What docks signed about the no-internet rule, byte for byte: of each dock a chain from 1 on,
# without gaps. made_at is by the dock's clock; occasion and isolation as protocol.attestation has.
attestations: Final = Table(
    "attestations",
    metadata,
    Column("dock", String(32), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("payload_sha256", String(64), nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("made_at", Utc, nullable=False),
    Column("received_at", Utc, nullable=False),
    Column("occasion", String(16), nullable=False),
    Column("isolation", String(16), nullable=False),
)

# Every registry that was issued, as it was signed.
registries: Final = Table(
    "registries",
    metadata,
    Column("version", Integer, primary_key=True),
    Column("content_sha256", String(64), nullable=False),
    Column("issued_at", Utc, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
)

# Every certificate whose key may sign, or once might sign, manifests: bags carry the one that did.
signing_certificates: Final = Table(
    "signing_certificates",
    metadata,
    Column("key_id", String(64), primary_key=True),
    Column("dock", String(32), nullable=False),
    Column("certificate_pem", LargeBinary, nullable=False),
    Column("known_since", Utc, nullable=False),
)

# Every entry of the custody log, numbered without gaps. personal is what stands in the entry as a
# digest with this salt; both may be forgotten, the entry never. receipt_id: of a receipt's entry.
custody_entries: Final = Table(
    "custody_entries",
    metadata,
    Column("entry_index", Integer, primary_key=True, autoincrement=False),
    Column("entry", LargeBinary, nullable=False),
    Column("salt", LargeBinary),
    Column("personal", LargeBinary),
    Column("receipt_id", String(36)),
    Index("ix_custody_entries_receipt", "receipt_id"),
)

# One row: the checkpoint of the custody log that was signed last.
custody_checkpoint: Final = Table(
    "custody_checkpoint",
    metadata,
    Column("checkpoint_id", Integer, primary_key=True),
    Column("note", LargeBinary, nullable=False),
)
