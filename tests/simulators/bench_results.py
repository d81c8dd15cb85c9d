"""Runs of the benchmark with round numbers."""

from bench.results import Case, Evidence, Limits, Machine, ReadBack, Results, Run, Series

MIB = 1 << 20
PROVED = Evidence(
    files_synced=True, names_synced=True, digest="SHA-256", read_back=ReadBack.DISK, journal=True
)
PROVED_BY_PEER = Evidence(
    files_synced=True, names_synced=True, digest="SHA-256", read_back=ReadBack.DISK
)
SYNCED = Evidence(files_synced=True, names_synced=True, digest=None, read_back=ReadBack.NONE)


def limits(*, write_mib_s: float = 200, read_mib_s: float = 100) -> Limits:
    """A slow disk that reads half as fast as it writes; all else is so fast that it is nothing."""
    return Limits(
        write_bytes_s=write_mib_s * MIB,
        read_bytes_s=read_mib_s * MIB,
        mixed_bytes_s=150 * MIB,
        hash_bytes_s=100_000 * MIB,
        hash_core_bytes_s=50_000 * MIB,
        sm3_core_bytes_s=10_000 * MIB,
        source_bytes_s=100_000 * MIB,
    )


def series(
    name: str, *seconds: float, evidence: Evidence = PROVED, level: str | None = None
) -> Series:
    """Runs that took so long, with 1 s of processor time and 64 MiB each."""
    peak_bytes = None if level is None else 64 * MIB
    runs = tuple(Run(seconds=one, cpu_s=1, peak_bytes=peak_bytes) for one in seconds)
    return Series(name=name, command=name, evidence=evidence, runs=runs, level=level)


def case(
    *contenders: Series, name: str = "1 bay", bays: int = 1, measured: tuple[Limits, ...] = ()
) -> Case:
    """200 MiB in all, which the disk of `limits` writes in 1 s and reads in 2 s."""
    rounds = len(contenders[0].runs) if contenders else 0
    return Case(
        name=name,
        bays=bays,
        files=bays,
        bay_bytes=200 * MIB // bays,
        total_bytes=200 * MIB,
        limits=measured or (limits(),) * (rounds + 1),
        series=contenders,
    )


def results(*cases: Case) -> Results:
    """A run on a machine of no matter."""
    return Results(
        measured_at="2026-11-25T21:00+00:00",
        command="make bench",
        revision="0123abc",
        machine=Machine(
            cores=2,
            memory_mib=1024,
            processor="a processor",
            system="Linux",
            python="3.11",
            file_system="ext4",
        ),
        tools={"rsync": "3.2"},
        cases=cases,
        figures=(),
    )
