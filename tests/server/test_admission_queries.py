"""What a batch of manifests asks the catalogue is found by index, however full the catalogue is."""

import pytest
from sqlalchemy import Select, create_engine
from sqlalchemy.dialects import sqlite

from protocol.identifiers import DockId, DockingId, ManifestId, RecordingId
from server_agent.catalogue import queries, waiting_queries
from server_agent.catalogue.tables import metadata

MANY = [str(number) for number in range(100)]


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (queries.heads([DockId(one) for one in MANY]), "(dock=?)"),
        (queries.kept_at(queries.PAIR_COUNTS[-1]), "(dock=? AND sequence=?)"),
        (queries.kept_as([ManifestId(one) for one in MANY]), "(manifest_id=?)"),
        (queries.claimed([RecordingId(one) for one in MANY]), "(recording_id=?)"),
        (queries.claimed_dockings([DockingId(one) for one in MANY]), "(docking_id=?)"),
        (queries.archived_content(queries.PAIR_COUNTS[-1]), "(recorder=? AND sha256=?)"),
        (queries.file_states([ManifestId(one) for one in MANY]), "(manifest_id=?)"),
        (queries.receipts([ManifestId(one) for one in MANY]), "(manifest_id=?)"),
        (waiting_queries.waiting_sizes(DockId("dock-01")), "(dock=? AND sequence>?)"),
    ],
)
def test_admission_reads_no_table_through(query: Select[tuple[object]], index: str) -> None:
    """SQLite goes by the index that finds just the rows that are asked for."""
    compiled = query.compile(dialect=sqlite.dialect(), compile_kwargs={"render_postcompile": True})
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    connection = engine.raw_connection()
    names = compiled.positiontup or []
    plan = [
        row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {compiled}", [None] * len(names))
    ]
    connection.close()
    engine.dispose()

    assert any(index in step for step in plan), plan
    assert not [step for step in plan if "AUTOMATIC" in step]
