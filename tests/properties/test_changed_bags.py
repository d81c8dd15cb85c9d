"""No change to a bag goes unseen, and no bag, however made, is more than data."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.simulators.bagged import Bagged, bags_of


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Bagged:
    return next(bags_of(tmp_path_factory.mktemp("shared"), clips={b"DCIM/x.MP4": b"clip"}))


@given(data=st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_changed_byte_is_found(shared: Bagged, data: st.DataObject) -> None:
    """Whichever byte of whichever file is changed, something is found; nothing is raised."""
    names = sorted(
        str(path.relative_to(shared.path)) for path in shared.path.rglob("*.*") if path.is_file()
    )
    name = data.draw(st.sampled_from(names))
    content = shared.read(name)
    at = data.draw(st.integers(0, len(content) - 1))
    flipped = bytes([content[at] ^ data.draw(st.integers(1, 255))])
    try:
        shared.write(name, content[:at] + flipped + content[at + 1 :])
        assert shared.codes()
    finally:
        shared.write(name, content)


@given(data=st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_hostile_tags_raise_nothing(shared: Bagged, data: st.DataObject) -> None:
    """Whatever a tag file holds, with its digest made right, the verdict is data."""
    names = sorted(
        str(path.relative_to(shared.path)) for path in shared.path.rglob("*.*") if path.is_file()
    )
    name = data.draw(st.sampled_from([name for name in names if not name.startswith("data/")]))
    content, tag_manifest = shared.read(name), shared.read("tagmanifest-sha256.txt")
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, len(content)))
    try:
        shared.write(name, content[:start] + data.draw(st.binary(max_size=20)) + content[end:])
        shared.seal()
        shared.report()
    finally:
        shared.write(name, content)
        shared.write("tagmanifest-sha256.txt", tag_manifest)
