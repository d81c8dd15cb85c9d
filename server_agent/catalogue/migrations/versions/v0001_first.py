"""The tables of the first release."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0001"
down_revision: Final = None
branch_labels: Final = None
depends_on: Final = None

_UTC: Final = sa.DateTime(timezone=True)
_LOCAL: Final = sa.DateTime(timezone=False)
_ID: Final = sa.String(36)
_NAME: Final = sa.String(32)
_DIGEST: Final = sa.String(64)
_WORD: Final = sa.String(16)


def upgrade() -> None:
    """Bring the tables from the version before to this one; there is no way back."""
    _create_chains()
    _create_messages()
    _create_site()
    _create_groups()
    _create_files()


def _create_chains() -> None:
    op.create_table(
        "docks",
        sa.Column("dock", _NAME, nullable=False),
        sa.Column("head_sequence", sa.BigInteger(), nullable=False),
        sa.Column("head_sha256", _DIGEST, nullable=False),
        sa.PrimaryKeyConstraint("dock", name="pk_docks"),
    )
    op.create_table(
        "manifests",
        sa.Column("manifest_id", _ID, nullable=False),
        sa.Column("dock", _NAME, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("payload_sha256", _DIGEST, nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("state", _WORD, nullable=False),
        sa.Column("docking_id", _ID, nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("bay", sa.Integer(), nullable=False),
        sa.Column("recorder", _NAME, nullable=False),
        sa.Column("officer", _NAME, nullable=True),
        sa.Column("received_at", _UTC, nullable=False),
        sa.Column("archived_at", _UTC, nullable=True),
        sa.Column("refusal_code", _WORD, nullable=True),
        sa.Column("refusal_detail", sa.Text(), nullable=True),
        sa.Column("receipt", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("manifest_id", name="pk_manifests"),
        sa.UniqueConstraint("dock", "sequence", name="uq_manifests_dock"),
    )
    op.create_index("ix_manifests_state", "manifests", ["state"])
    op.create_index("ix_manifests_docking", "manifests", ["docking_id", "part"])


def _create_messages() -> None:
    op.create_table(
        "refused_messages",
        sa.Column("message_id", sa.Integer(), nullable=False),
        sa.Column("received_at", _UTC, nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("sha256", _DIGEST, nullable=False),
        sa.Column("code", _WORD, nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("message_id", name="pk_refused_messages"),
        sa.UniqueConstraint("sha256", "topic", "code", name="uq_refused_messages_sha256"),
    )
    op.create_table(
        "alerts",
        sa.Column("alert_id", _ID, nullable=False),
        sa.Column("dock", _NAME, nullable=True),
        sa.Column("bay", sa.Integer(), nullable=True),
        sa.Column("recorder", _NAME, nullable=True),
        sa.Column("code", _WORD, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("raised_at", _UTC, nullable=False),
        sa.Column("received_at", _UTC, nullable=False),
        sa.PrimaryKeyConstraint("alert_id", name="pk_alerts"),
    )
    op.create_index("ix_alerts_raised", "alerts", ["raised_at"])


def _create_site() -> None:
    op.create_table(
        "registries",
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("content_sha256", _DIGEST, nullable=False),
        sa.Column("issued_at", _UTC, nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_registries"),
    )
    op.create_table(
        "signing_certificates",
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("dock", _NAME, nullable=False),
        sa.Column("certificate_pem", sa.LargeBinary(), nullable=False),
        sa.Column("known_since", _UTC, nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_signing_certificates"),
    )


def _create_groups() -> None:
    op.create_table(
        "bags",
        sa.Column("bag_id", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("tagmanifest_sha256", _DIGEST, nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("archived_at", _UTC, nullable=False),
        sa.Column("damaged_at", _UTC, nullable=True),
        sa.PrimaryKeyConstraint("bag_id", name="pk_bags"),
        sa.UniqueConstraint("path", name="uq_bags_path"),
    )
    op.create_table(
        "groups",
        sa.Column("group_id", sa.Integer(), nullable=False),
        sa.Column("manifest_id", _ID, nullable=False),
        sa.Column("recording_id", _ID, nullable=True),
        sa.Column("dock", _NAME, nullable=False),
        sa.Column("recorder", _NAME, nullable=False),
        sa.Column("officer", _NAME, nullable=True),
        sa.Column("recorded_on", sa.Date(), nullable=False),
        sa.Column("started", _LOCAL, nullable=True),
        sa.Column("marked", sa.Boolean(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("existing", sa.Boolean(), nullable=False),
        sa.Column("bag_id", sa.Integer(), nullable=True),
        sa.Column("matched_bag_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["bag_id"], ["bags.bag_id"], name="fk_groups_bag_id"),
        sa.ForeignKeyConstraint(
            ["matched_bag_id"], ["bags.bag_id"], name="fk_groups_matched_bag_id"
        ),
        sa.ForeignKeyConstraint(
            ["manifest_id"], ["manifests.manifest_id"], name="fk_groups_manifest_id"
        ),
        sa.PrimaryKeyConstraint("group_id", name="pk_groups"),
        sa.UniqueConstraint("recording_id", name="uq_groups_recording_id"),
    )
    op.create_index("ix_groups_manifest", "groups", ["manifest_id"])
    op.create_index("ix_groups_day", "groups", ["recorded_on", "recorder"])
    op.create_index("ix_groups_officer", "groups", ["officer", "recorded_on"])
    op.create_index("ix_groups_recorder", "groups", ["recorder", "recorded_on"])
    op.create_index("ix_groups_bag", "groups", ["bag_id"])
    op.create_index("ix_groups_matched", "groups", ["matched_bag_id"])


def _create_files() -> None:
    op.create_table(
        "files",
        sa.Column("file_id", sa.Integer(), nullable=False),
        sa.Column("group_id", sa.Integer(), nullable=False),
        sa.Column("manifest_id", _ID, nullable=False),
        sa.Column("recorder", _NAME, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("raw_path", sa.LargeBinary(), nullable=True),
        sa.Column("safe_name", sa.String(255), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("sha256", _DIGEST, nullable=False),
        sa.Column("sm3", _DIGEST, nullable=True),
        sa.Column("kind", sa.String(8), nullable=True),
        sa.Column("sequence", sa.Integer(), nullable=True),
        sa.Column("started", _LOCAL, nullable=True),
        sa.Column("marked", sa.Boolean(), nullable=False),
        sa.Column("state", _WORD, nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["groups.group_id"], name="fk_files_group_id"),
        sa.ForeignKeyConstraint(
            ["manifest_id"], ["manifests.manifest_id"], name="fk_files_manifest_id"
        ),
        sa.PrimaryKeyConstraint("file_id", name="pk_files"),
    )
    op.create_index("ix_files_group", "files", ["group_id"])
    op.create_index("ix_files_content", "files", ["recorder", "sha256"])
    op.create_index("ix_files_manifest", "files", ["manifest_id", "sha256"])
