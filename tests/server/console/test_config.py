import asyncio
import threading
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.sql import text

from runtime.errors import SettingsError
from server_agent.console.config import (
    EXAMPLE,
    ConsoleSettings,
    catalogue_url,
    load_settings,
)
from server_agent.console.reader import open_catalogue
from tests.simulators.console_data import FilledSite, console_toml


def load(folder: Path, content: str) -> ConsoleSettings:
    file = folder / "console.toml"
    file.write_text(content)
    return load_settings(file)


def test_a_whole_file(site: FilledSite) -> None:
    """Paths are relative to the file; what is left out has a safe value."""
    settings = load(site.root, console_toml(site, mqtt_port=1883))

    assert settings.archive.root == site.archive
    assert settings.access.database == site.root / "access.sqlite"
    assert settings.listen.host == "127.0.0.1"
    assert not settings.listen.tls
    assert settings.timezone == "Asia/Shanghai"


def test_the_example_is_right(tmp_path: Path) -> None:
    """What --help shows as a configuration is one."""
    settings = load(tmp_path, EXAMPLE)

    assert settings.listen.tls
    assert settings.mqtt.tls is not None
    assert settings.mqtt.tls.key == tmp_path / "pki/console/tls.key"


@pytest.mark.parametrize(
    ("replaced", "by", "key_path"),
    [
        ('host = "127.0.0.1"\nport = 0', 'host = "0.0.0.0"', "$.listen.host"),
        ('host = "127.0.0.1"\nport = 0', 'host = "::"', "$.listen.host"),
        ('host = "127.0.0.1"\nport = 0', 'host = "192.0.2.1"', "$.listen.host"),
        ("port = 0", 'certificate = "tls.pem"', "$.listen"),
        ("port = 0", "port = 70000", "$.listen.port"),
        ('[mqtt]\nhost = "127.0.0.1"', '[mqtt]\nhost = "broker.example"', "$.mqtt.tls"),
        ("sqlite+aiosqlite:///catalogue.sqlite", "mysql://x/y", "$.catalogue.url"),
        ("sqlite+aiosqlite:///catalogue.sqlite", "not a url", "$.catalogue.url"),
        ("sqlite+aiosqlite:///catalogue.sqlite", "sqlite+aiosqlite://", "$.catalogue.url"),
        ('root = "archive"', "", "$.archive.root"),
        ("json = false", "jsn = false", "$.log.jsn"),
        ("[listen]", 'timezone = "Mars/Olympus"\n[listen]', "$.timezone"),
    ],
)
def test_a_wrong_key_is_named(site: FilledSite, replaced: str, by: str, key_path: str) -> None:
    """What is wrong, and what would let strangers in, is refused with the place in the file."""
    content = console_toml(site, mqtt_port=1883)
    assert replaced in content

    with pytest.raises(SettingsError) as refused:
        load(site.root, content.replace(replaced, by, 1))

    assert refused.value.key_path == key_path


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_needs_no_tls(site: FilledSite, host: str) -> None:
    """Plain HTTP is for this machine alone."""
    content = console_toml(site, mqtt_port=1883).replace("127.0.0.1", host, 1)

    assert load(site.root, content).listen.host == host


async def test_the_catalogue_cannot_be_written(site: FilledSite, settings: ConsoleSettings) -> None:
    """The console's own connection refuses every change."""
    engine = open_catalogue(catalogue_url(settings, base=site.root))
    async with engine.connect() as connection:
        with pytest.raises(OperationalError, match="readonly"):
            await connection.execute(text("DELETE FROM alerts"))
    await engine.dispose()


async def test_a_missing_catalogue_is_not_made(tmp_path: Path, settings: ConsoleSettings) -> None:
    """Where there is no catalogue, reading it fails; no empty one appears."""
    engine = open_catalogue(catalogue_url(settings, base=tmp_path / "elsewhere"))
    with pytest.raises(OperationalError):
        await engine.connect().__aenter__()
    await engine.dispose()
    for thread in threading.enumerate():  # aiosqlite's, which says its last word to this loop
        if "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join, 30)

    assert not (tmp_path / "elsewhere").exists()
