from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import KeyExposedError, KeyUnusableError
from runtime.keys import load_certificate_key, load_signing_key, refuse_exposed
from tests.simulators.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


def test_a_key_and_its_certificate_belong_together(authority: Authority) -> None:
    """What the loaded key signs, the key of its certificate verifies, under the same id."""
    pair = authority.issue_signing("dock-7")
    signing, verifying = load_signing_key(pair.key), load_certificate_key(pair.certificate)

    assert verifying.verify(signing.sign(b"data"), b"data")
    assert not verifying.verify(signing.sign(b"data"), b"other data")
    assert signing.key_id == verifying.key_id


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_an_exposed_key_is_refused(authority: Authority, mode: int) -> None:
    """A private key to which others have any right signs nothing."""
    pair = authority.issue_signing(f"dock-{mode}")
    pair.key.chmod(mode)

    with pytest.raises(KeyExposedError) as caught:
        load_signing_key(pair.key)
    assert (caught.value.file, caught.value.mode) == (pair.key, mode)


@given(mode=st.integers(0, 0o7777))
def test_only_the_owner_may_have_rights(mode: int) -> None:
    """Whatever the owner may do, nobody else may do anything."""
    if mode & 0o077:
        with pytest.raises(KeyExposedError):
            refuse_exposed(Path("key"), mode=mode)
    else:
        refuse_exposed(Path("key"), mode=mode)


def test_a_certificate_may_be_read_by_all(authority: Authority) -> None:
    """What is public needs no protection."""
    pair = authority.issue_signing("dock-8")
    pair.certificate.chmod(0o644)

    assert load_certificate_key(pair.certificate).spki_der


def test_a_tls_key_signs_nothing(authority: Authority) -> None:
    """A key of another algorithm is refused, and the message names its file."""
    pair = authority.issue_tls("dock-9")

    with pytest.raises(KeyUnusableError, match=r"tls\.key") as caught:
        load_signing_key(pair.key)
    assert caught.value.file == pair.key
    with pytest.raises(KeyUnusableError, match=r"tls\.pem"):
        load_certificate_key(pair.certificate)


@pytest.mark.parametrize("content", [b"", b"no PEM", bytes(1 << 17)], ids=["empty", "text", "long"])
def test_nonsense_is_no_key(tmp_path: Path, content: bytes) -> None:
    """A file of anything else is refused, however long it is."""
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_bytes(content)

    with pytest.raises(KeyUnusableError):
        load_signing_key(path)
    with pytest.raises(KeyUnusableError):
        load_certificate_key(path)


def test_a_missing_key_is_our_disks_word(tmp_path: Path) -> None:
    """A file that cannot be read is told as the disk tells it."""
    with pytest.raises(FileNotFoundError):
        load_signing_key(tmp_path / "key")
