from hypothesis import given
from hypothesis import strategies as st

from protocol.chain import GENESIS, ChainHead, Link, judge
from protocol.digest import sha256_hex


def digest_of(number: int) -> str:
    return sha256_hex(str(number).encode())


def head_at(number: int) -> ChainHead:
    return ChainHead(sequence=number, payload_sha256=digest_of(number)) if number else GENESIS


def judged(head: int, number: int, *, recorded: str | None = None) -> Link:
    return judge(
        head_at(head),
        sequence=number,
        previous_sha256=head_at(number - 1).payload_sha256,
        payload_sha256=digest_of(number),
        recorded_sha256=recorded,
    )


@given(order=st.permutations(range(1, 8)), repeats=st.lists(st.integers(1, 7), max_size=10))
def test_any_order_with_repeats_ends_in_one_chain(order: list[int], repeats: list[int]) -> None:
    """In whatever order manifests come, and however often, all are taken once, in sequence."""
    head, kept, taken = 0, dict[int, str](), list[int]()
    arriving = [*order, *repeats]
    while arriving:
        number = arriving.pop(0)
        link = judged(head, number, recorded=kept.get(number))
        kept[number] = digest_of(number)
        if link is Link.NEXT:
            head = number
            taken.append(number)
            # What waited for this one is judged again.
            arriving = [later for later in kept if later == head + 1] + arriving
        else:
            assert link is (Link.LATER if number > head else Link.REPEATED)

    assert taken == list(range(1, 8))


@given(head=st.integers(0, 9), number=st.integers(1, 12))
def test_other_bytes_under_a_recorded_number_fork(head: int, number: int) -> None:
    """A number that is recorded with other bytes is a fork, before, at or after the head."""
    assert judged(head, number, recorded=sha256_hex(b"other")) is Link.FORKED


@given(head=st.integers(0, 9))
def test_wrong_predecessor_forks(head: int) -> None:
    """The next number that names another predecessor is a fork."""
    link = judge(
        head_at(head),
        sequence=head + 1,
        previous_sha256=sha256_hex(b"other"),
        payload_sha256=digest_of(head + 1),
        recorded_sha256=None,
    )

    assert link is Link.FORKED


@given(head=st.integers(1, 9), data=st.data())
def test_old_number_that_nobody_recorded_forks(head: int, data: st.DataObject) -> None:
    """A number at or below the head that the chain does not have cannot be ours."""
    assert judged(head, data.draw(st.integers(1, head))) is Link.FORKED
