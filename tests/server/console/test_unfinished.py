"""What the console says of files that were not taken whole."""

import msgspec
import pytest
from sqlalchemy import create_engine, update

from protocol.envelope import sign_statement
from protocol.manifest import ByteRange, Incomplete, IncompleteReason, Manifest, name_of
from protocol.versions import Statement
from server_agent.access.roles import Role
from server_agent.catalogue import tables
from server_agent.console.records import Wanted
from tests.server.console.conftest import Console
from tests.simulators.console_data import DOCK_KEY

OFFICER = "012301"  # who logs in with the officer's role
MIB = 1024 * 1024
PARTS = tuple(
    ByteRange(offset_bytes=offset, size_bytes=MIB, sha256="0" * 64) for offset in (0, 3 * MIB)
)


def unfinished(path: bytes, reason: IncompleteReason, *parts: ByteRange) -> Incomplete:
    return Incomplete(
        name=name_of(path),
        reason=reason,
        size_bytes=5 * MIB,
        taken_bytes=2 * MIB,
        readable=parts,
    )


async def put(console: Console, *files: Incomplete) -> str:
    """Let the manifest of a recording list *files*, and return the recording's address."""
    filed = next(one for one in console.site.filed if one.officer == OFFICER)
    detail = await console.desk.reader.find_recording(filed.recording_id, Wanted())
    assert detail is not None
    assert detail.manifest is not None
    manifest: Manifest = msgspec.structs.replace(detail.manifest, incomplete=files)
    engine = create_engine(f"sqlite:///{console.site.catalogue}")
    with engine.begin() as connection:
        connection.execute(
            update(tables.manifests)
            .where(tables.manifests.c.manifest_id == manifest.manifest_id)
            .values(envelope=sign_statement(manifest, Statement.MANIFEST, DOCK_KEY))
        )
    engine.dispose()
    return f"/recordings/{filed.recording_id}"


async def test_an_unreadable_file_is_named_with_how_much_is_held(console: Console) -> None:
    """Beside a recording stands what else of its docking is not whole, and how much there is."""
    address = await put(console, unfinished(b"DCIM/bad.MP4", IncompleteReason.UNREADABLE, *PARTS))
    async with console.browser(Role.DEVICE_ADMINISTRATOR) as browser:
        page = (await browser.get(address)).text

    for shown in (
        "DCIM/bad.MP4",
        "无法完整读出",
        "采集站已存 2.10 MB",
        "共 5.24 MB",
        "可读部分 2 段",
    ):
        assert shown in page


async def test_a_docking_that_is_whole_says_nothing(console: Console) -> None:
    """Where everything was taken there is no such list."""
    address = await put(console)
    async with console.browser(Role.DEVICE_ADMINISTRATOR) as browser:
        assert "不完整的文件" not in (await browser.get(address)).text


async def test_a_long_list_is_cut(console: Console) -> None:
    """A thousand files that did not fit do not bury the page; how many they are is said."""
    files = [unfinished(b"f%04d" % n, IncompleteReason.NO_SPACE) for n in range(1_000)]
    address = await put(console, *files)
    async with console.browser(Role.DEVICE_ADMINISTRATOR) as browser:
        page = (await browser.get(address)).text

    assert (page.count("采集站空间不足"), "1000" in page) == (50, True)
    assert "其余见归档袋内的清单" in page


@pytest.mark.parametrize("reason", IncompleteReason)
async def test_every_reason_has_words(console: Console, reason: IncompleteReason) -> None:
    """Whatever the reason, the page says it."""
    address = await put(console, unfinished(b"one", reason))
    async with console.browser(Role.DEVICE_ADMINISTRATOR) as browser:
        assert (await browser.get(address)).status == 200


async def test_an_officer_sees_no_names_of_others(console: Console) -> None:
    """On a shared recorder the other files may be somebody else's."""
    address = await put(console, unfinished(b"DCIM/secret.MP4", IncompleteReason.UNREADABLE))
    async with console.browser(Role.OFFICER) as browser:
        answer = await browser.get(address)

    assert answer.status == 200
    assert "secret" not in answer.text
