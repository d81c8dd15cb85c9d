import asyncio
import errno

import pytest

from edge_agent.adapters.latest import Latest


async def test_the_last_answer_counts_until_the_next() -> None:
    """Who asks a disk that hangs gets what it said before, and asks it once."""
    answers: list[asyncio.Future[int]] = []

    async def ask() -> int:
        answers.append(asyncio.get_running_loop().create_future())
        return await answers[-1]

    latest = Latest(ask, 7, patience_s=0)
    before = [await latest.value(), await latest.value()]
    await asyncio.sleep(0)
    answers[0].set_result(8)
    while await latest.value() != 8:
        pass

    assert before == [7, 7]
    assert len(answers) == 1


@pytest.mark.parametrize("number", [errno.EROFS, errno.EIO, errno.ENOSPC])
async def test_a_disk_that_refuses_changes_nothing(number: int) -> None:
    """The last answer counts then, too."""

    async def ask() -> int:
        raise OSError(number, "our disk")

    assert await Latest(ask, 7, patience_s=60).value() == 7


async def test_a_bug_is_no_answer() -> None:
    """What else goes wrong is raised."""

    async def ask() -> int:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await Latest(ask, 7, patience_s=60).value()
