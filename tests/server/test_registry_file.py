"""registry.toml: what people write, and what becomes of it."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.engine import make_url

from protocol.envelope import keyring, open_statement
from protocol.keys import VerifyingKey
from protocol.registry import Registry
from protocol.versions import Statement
from runtime.errors import SettingsError
from server_agent.adapters.catalogue_store import CatalogueStore, open_catalogue
from server_agent.adapters.registry_file import read_registry
from server_agent.app import load_signer_key, utc_now
from server_agent.catalogue.tables import registries, signing_certificates
from server_agent.config import Signing
from server_agent.errors import RegistryFileError, SigningKeyError
from server_agent.registering import InForce, issue_registry
from server_agent.signing import Signer
from tests.simulators.archive_site import DOCK, OTHER_DOCK, ArchiveSite, lay_out_site
from tests.simulators.certificates import Authority
from tests.simulators.claims import OFFICER, RECORDER


@pytest.fixture
def site(tmp_path: Path) -> ArchiveSite:
    return lay_out_site(tmp_path)


@pytest.fixture
async def store(site: ArchiveSite) -> AsyncIterator[CatalogueStore]:
    async with open_catalogue(make_url(site.configure().catalogue.url)) as opened:
        yield opened


def signer(site: ArchiveSite) -> Signer:
    signing = site.signing["archive"]
    key = load_signer_key(Signing(key=signing.key, certificate=signing.certificate))
    return Signer(key=key, clock=utc_now, entropy=bytes)


async def issue(site: ArchiveSite, store: CatalogueStore) -> InForce:
    file = site.root / "registry.toml"
    return await issue_registry(file, ca=site.authority.ca, store=store, signer=signer(site))


def read(site: ArchiveSite) -> Registry:
    return read_registry(site.root / "registry.toml", ca=site.authority.ca).registry


def append(site: ArchiveSite, text: str) -> None:
    with (site.root / "registry.toml").open("a") as file:
        file.write(text)


def test_the_file_is_read(site: ArchiveSite) -> None:
    """Docks with their keys, officers, recorders: as they are written."""
    registry = read(site)

    assert [one.dock for one in registry.docks] == [DOCK, OTHER_DOCK]
    assert VerifyingKey.from_spki_der(registry.docks[0].signing_key).key_id == site.key(DOCK).key_id
    assert [one.officer for one in registry.officers] == [OFFICER]
    found = registry.find_recorder(model=RECORDER.model, serial=RECORDER.serial)
    assert found is not None
    assert found.recorder == RECORDER.recorder_id


def _officer_twice(site: ArchiveSite) -> None:
    append(site, f'[[officers]]\nofficer = "{OFFICER}"\nname = "x"\n')


def _recorder_twice(site: ArchiveSite) -> None:
    site.recorders *= 2
    site.write_registry()


def _serial_twice(site: ArchiveSite) -> None:
    append(
        site,
        f'[[recorders]]\nrecorder = "R-2"\nmake = "x"\nmodel = "{RECORDER.model}"\n'
        f'serial = "{RECORDER.serial}"\n',
    )


def _unlisted_officer(site: ArchiveSite) -> None:
    append(
        site,
        '[[recorders]]\nrecorder = "R-3"\nmake = "x"\nmodel = "x"\nserial = "x"\nofficer = "7"\n',
    )


def _dock_twice(site: ArchiveSite) -> None:
    site.docks *= 2
    site.write_registry()


def _reserved_name(site: ArchiveSite) -> None:
    append(site, '[[docks]]\ndock = "console"\nname = "x"\ncertificate = "pki/ca.pem"\n')


def _another_docks_certificate(site: ArchiveSite) -> None:
    site.signing[DOCK].certificate.write_bytes(site.signing[OTHER_DOCK].certificate.read_bytes())


def _another_authority(site: ArchiveSite) -> None:
    stranger = Authority(site.root / "elsewhere", common_name="Another site")
    site.signing[DOCK].certificate.write_bytes(
        stranger.issue_signing(DOCK).certificate.read_bytes()
    )


def _same_name_of_another_authority(site: ArchiveSite) -> None:
    impostor = Authority(site.root / "elsewhere")
    site.signing[DOCK].certificate.write_bytes(
        impostor.issue_signing(DOCK).certificate.read_bytes()
    )


def _tls_certificate(site: ArchiveSite) -> None:
    site.signing[DOCK].certificate.write_bytes(site.tls[DOCK].certificate.read_bytes())


def _no_certificate(site: ArchiveSite) -> None:
    site.signing[DOCK].certificate.write_text("nothing")


@pytest.mark.parametrize(
    "spoil",
    [
        _officer_twice,
        _recorder_twice,
        _serial_twice,
        _unlisted_officer,
        _dock_twice,
        _reserved_name,
        _another_docks_certificate,
        _another_authority,
        _same_name_of_another_authority,
        _tls_certificate,
        _no_certificate,
    ],
)
def test_a_spoiled_file_is_refused(site: ArchiveSite, spoil: Callable[[ArchiveSite], None]) -> None:
    """What contradicts itself, or names a certificate that is not that dock's, is refused."""
    spoil(site)

    with pytest.raises(RegistryFileError) as caught:
        read(site)

    assert caught.value.problem


@pytest.mark.parametrize(
    ("text", "key_path"),
    [
        ('[[docks]]\ndock = "Dock 1"\nname = "x"\ncertificate = "x"\n', "$.docks[2].dock"),
        ('[[docks]]\ndock = "dock-3"\nname = "x"\n', "$.docks[2].certificate"),
        ('[[recorders]]\nnumber = "R-1"\n', "$.recorders[1].number"),
    ],
)
def test_a_wrong_key_is_named(site: ArchiveSite, text: str, key_path: str) -> None:
    """The message says which key of which entry is wrong."""
    append(site, text)

    with pytest.raises(SettingsError) as caught:
        read(site)

    assert caught.value.key_path == key_path


async def test_a_registry_is_signed_and_kept(site: ArchiveSite, store: CatalogueStore) -> None:
    """What is issued is signed by the archive, kept so, beside the docks' certificates."""
    in_force = await issue(site, store)
    opened = open_statement(
        in_force.envelope, Statement.REGISTRY, Registry, keyring(site.archive_key)
    )
    async with store.reading() as connection:
        [kept] = (await connection.execute(select(registries))).all()
        certificates = (await connection.execute(select(signing_certificates))).all()

    assert opened.version == in_force.version == kept.version == 1
    assert kept.envelope == in_force.envelope
    assert {one.dock for one in certificates} == {DOCK, OTHER_DOCK}
    assert in_force.site.docks.keys() == {DOCK, OTHER_DOCK}


async def test_only_new_content_is_a_new_version(site: ArchiveSite, store: CatalogueStore) -> None:
    """Reading the same file again issues nothing; a change, and its undoing, each do."""
    first = await issue(site, store)
    same = await issue(site, store)
    site.recorders.clear()
    site.write_registry()
    second = await issue(site, store)
    site.recorders.append(RECORDER)
    site.write_registry()
    third = await issue(site, store)

    assert same.envelope == first.envelope
    assert [first.version, second.version, third.version] == [1, 2, 3]


async def test_a_new_signing_key_signs_the_registry_again(
    site: ArchiveSite, store: CatalogueStore
) -> None:
    """Docks that know the archive's new key only would not believe the old signature."""
    await issue(site, store)
    site.signing["archive"] = site.authority.issue_signing("archive")
    again = await issue(site, store)

    assert again.version == 2
    open_statement(again.envelope, Statement.REGISTRY, Registry, keyring(site.archive_key))


async def test_an_old_certificate_is_kept(site: ArchiveSite, store: CatalogueStore) -> None:
    """A dock's new key does not make the old one's certificate go: bags may still need it."""
    await issue(site, store)
    site.authority.issue_signing(DOCK)
    await issue(site, store)

    async with store.reading() as connection:
        rows = (await connection.execute(select(signing_certificates))).all()
    assert [row.dock for row in rows].count(DOCK) == 2


def test_key_and_certificate_have_to_match(site: ArchiveSite) -> None:
    """A signing key that is not the certificate's would sign what no dock believes."""
    signing = Signing(key=site.signing["archive"].key, certificate=site.signing[DOCK].certificate)

    with pytest.raises(SigningKeyError):
        load_signer_key(signing)
