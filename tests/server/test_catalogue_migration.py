"""The migrations make exactly the tables that the code works with."""

from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Table, create_engine, inspect, text

from server_agent.adapters.catalogue_store import migrate
from server_agent.catalogue.tables import metadata
from server_agent.errors import CatalogueNewerError


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{tmp_path / 'a 100% good catalogue.sqlite'}")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def described(connection: Connection) -> dict[str, Any]:
    """Everything that SQLite knows of the tables, as SQL."""
    rows = connection.execute(
        text("SELECT type, name, tbl_name FROM sqlite_master WHERE name NOT LIKE 'alembic%'")
    )
    inspector = inspect(connection)
    tables = sorted(set(inspector.get_table_names()) - {"alembic_version"})
    return {
        "names": sorted(tuple(row) for row in rows if not str(row.name).startswith("sqlite_")),
        "tables": {
            table: (
                [(one["name"], str(one["type"]), one["nullable"]) for one in columns],
                inspector.get_pk_constraint(table),
                sorted(map(str, inspector.get_unique_constraints(table))),
                sorted(map(str, inspector.get_foreign_keys(table))),
                sorted(map(str, inspector.get_indexes(table))),
            )
            for table in tables
            for columns in [inspector.get_columns(table)]
        },
    }


def _migrate_to(connection: Connection, revision: str) -> None:
    """Bring a database to what a release before had."""
    with as_file(files("server_agent.catalogue") / "migrations") as scripts:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(scripts).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        command.upgrade(config, revision)


def test_migrations_make_the_tables(connection: Connection, tmp_path: Path) -> None:
    """A migrated database is what the tables' own definition would make."""
    migrate(connection)
    engine = create_engine(f"sqlite:///{tmp_path / 'made'}")
    with engine.begin() as made:
        metadata.create_all(made)
        expected = described(made)
    engine.dispose()

    assert described(connection) == expected
    assert expected["tables"]


def test_nothing_is_left_to_migrate(connection: Connection) -> None:
    """Alembic itself finds no difference between migrations and tables."""
    migrate(connection)
    context = MigrationContext.configure(connection, opts={"compare_type": True})

    assert compare_metadata(context, metadata) == []


def test_a_difference_would_be_found(connection: Connection) -> None:
    """A table that no migration makes shows up as a difference."""
    migrate(connection)
    extended = type(metadata)()
    for table in metadata.sorted_tables:
        table.to_metadata(extended)
    Table("forgotten", extended)
    context = MigrationContext.configure(connection)

    assert compare_metadata(context, extended)


def test_migrating_again_changes_nothing(connection: Connection) -> None:
    """A program that starts again finds its tables and keeps what is in them."""
    migrate(connection)
    connection.execute(
        text("INSERT INTO docks (dock, head_sequence, head_sha256) VALUES ('dock-01', 7, 'ab')")
    )
    connection.commit()

    migrate(connection)

    assert connection.execute(text("SELECT head_sequence FROM docks")).scalar_one() == 7


def test_a_catalogue_without_a_custody_log_gets_one(connection: Connection) -> None:
    """What the release before kept is all there, and the log begins empty."""
    _migrate_to(connection, "0001")
    connection.execute(
        text("INSERT INTO docks (dock, head_sequence, head_sha256) VALUES ('dock-01', 7, 'ab')")
    )
    connection.commit()

    migrate(connection)

    assert connection.execute(text("SELECT head_sequence FROM docks")).scalar_one() == 7
    assert connection.execute(text("SELECT count(*) FROM custody_entries")).scalar_one() == 0
    assert connection.execute(text("SELECT count(*) FROM custody_checkpoint")).scalar_one() == 0


def test_entries_of_receipts_are_found_after_the_migration(connection: Connection) -> None:
    """Of the release before: each receipt's entry is named, and no other."""
    _migrate_to(connection, "custody_log")
    receipts = {5: "01a207be-9420-7315-926a-a37e007be06d", 9_000: "r2"}
    rows = [
        {"number": number, "entry": b'{"event":"bag-archived","receipt_id":"no"}'}
        for number in range(9_001)
    ]
    for number, receipt_id in receipts.items():
        rows[number]["entry"] = b'{"event":"receipt-issued","receipt_id":"%s"}' % (
            receipt_id.encode()
        )
    connection.execute(
        text("INSERT INTO custody_entries (entry_index, entry) VALUES (:number, :entry)"), rows
    )
    connection.commit()

    migrate(connection)

    named = connection.execute(
        text("SELECT entry_index, receipt_id FROM custody_entries WHERE receipt_id IS NOT NULL")
    ).all()
    assert dict(named) == receipts


def test_a_catalogue_without_attestations_gets_a_place_for_them(connection: Connection) -> None:
    """What the release before kept is all there, each alert as it was; nothing is attested yet."""
    _migrate_to(connection, "custody_log")
    connection.execute(
        text("INSERT INTO docks (dock, head_sequence, head_sha256) VALUES ('dock-01', 7, 'ab')")
    )
    connection.execute(text("INSERT INTO custody_entries (entry_index, entry) VALUES (0, X'78')"))
    connection.execute(
        text(
            "INSERT INTO alerts (alert_id, dock, code, text, facts, raised_at, received_at) VALUES"
            " ('one', 'dock-01', 'E-ISO-102', 'a route', '{}', '2026-11-23', '2026-11-23')"
        )
    )
    connection.commit()

    migrate(connection)

    assert connection.execute(text("SELECT head_sequence FROM docks")).scalar_one() == 7
    assert connection.execute(text("SELECT count(*) FROM custody_entries")).scalar_one() == 1
    alert = connection.execute(text("SELECT code, over_at FROM alerts")).one()
    assert tuple(alert) == ("E-ISO-102", None)
    assert connection.execute(text("SELECT count(*) FROM attestations")).scalar_one() == 0


def test_a_newer_catalogue_is_refused(connection: Connection) -> None:
    """A catalogue of a newer release is not touched by an older one."""
    migrate(connection)
    connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    connection.commit()

    with pytest.raises(CatalogueNewerError, match="9999"):
        migrate(connection)
