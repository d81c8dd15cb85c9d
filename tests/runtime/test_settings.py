from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest

from runtime.errors import SettingsError
from runtime.settings import load_toml


class Kind(Enum):
    USB = "usb"
    DIRECTORY = "directory"


class Tape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="tape"):
    drive: str


class Disc(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="disc"):
    speed: int


class Bay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: Kind
    number: Annotated[int, msgspec.Meta(ge=1, le=99)] = 1
    mode: Literal["auto", "manual"] = "auto"
    path: Path | None = None
    burner: Tape | Disc | None = None

    def __post_init__(self) -> None:
        if self.number == 13:
            raise ValueError("there is no bay 13")


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    bays: tuple[Bay, ...] = ()
    named: dict[str, Bay] = {}
    pair: tuple[int, Bay] | None = None
    wait_s: int = msgspec.field(default=5, name="wait-s")
    ratio: float = 1.0
    flags: dict[Literal["fast", "safe"], bool] = {}


class Loose(msgspec.Struct):
    pattern: complex = 1j


def load(tmp_path: Path, text: str) -> Config:
    (tmp_path / "edge.toml").write_text(text)
    return load_toml(tmp_path / "edge.toml", Config)


def test_a_good_file_is_a_value(tmp_path: Path) -> None:
    """Tables, arrays, choices and defaults come out typed."""
    config = load(
        tmp_path,
        """
        wait-s = 9
        [[bays]]
        source = "usb"
        [[bays]]
        source = "directory"
        number = 2
        burner = { type = "disc", speed = 4 }
        """,
    )

    assert config.wait_s == 9
    assert config.bays == (
        Bay(source=Kind.USB),
        Bay(source=Kind.DIRECTORY, number=2, burner=Disc(speed=4)),
    )


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    """What is not said is as the type says."""
    assert load(tmp_path, "") == Config()


def test_relative_paths_are_relative_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the program was started does not matter; an absolute path stays as it is."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/edge.toml").write_text(
        """
        bays = [{ source = "directory", path = "../x" }, { source = "directory", path = "/y" }]
        """
    )
    monkeypatch.chdir(tmp_path)
    config = load_toml(Path("etc/edge.toml"), Config)

    assert [bay.path for bay in config.bays] == [tmp_path / "etc/../x", Path("/y")]


@pytest.mark.parametrize(
    ("text", "key_path", "words"),
    [
        ("nope = 1", "$.nope", ["unknown key", "bays", "wait-s"]),
        ("wait_s = 1", "$.wait_s", ["unknown key", "wait-s"]),
        ("wait-s = '1'", "$.wait-s", ["int", "str"]),
        ("wait-s = 1.5", "$.wait-s", ["int", "float"]),
        ("ratio = true", "$.ratio", ["float", "bool"]),
        ("bays = 1", "$.bays", ["array", "int"]),
        ("bays = [{}]", "$.bays[0].source", ["missing", "'usb'", "'directory'"]),
        (
            "[[bays]]\nsource = 'usb'\n[[bays]]\nsource = 'usb'\n[[bays]]\nsource = 'floppy'",
            "$.bays[2].source",
            ["'floppy'", "'usb'", "'directory'"],
        ),
        ("bays = [{source = 'usb', speed = 1}]", "$.bays[0].speed", ["unknown key", "number"]),
        ("bays = [{source = 'usb', number = 0}]", "$.bays[0].number", ["int", ">= 1"]),
        ("bays = [{source = 'usb', number = 13}]", "$.bays[0]", ["there is no bay 13"]),
        ("bays = [{source = 'usb', mode = 'x'}]", "$.bays[0].mode", ["'auto'", "'manual'"]),
        ("bays = [{source = 'usb', path = 1}]", "$.bays[0].path", ["path", "int"]),
        ("bays = [{source = 'usb', path = ''}]", "$.bays[0].path", ["path", "nothing"]),
        (
            "bays = [{source = 'usb', burner = {type = 'x'}}]",
            "$.bays[0].burner.type",
            ["'x'", "'tape'", "'disc'"],
        ),
        (
            "bays = [{source = 'usb', burner = {}}]",
            "$.bays[0].burner.type",
            ["missing", "'tape'", "'disc'"],
        ),
        (
            "bays = [{source = 'usb', burner = {type = 'disc', drive = 'x'}}]",
            "$.bays[0].burner.drive",
            ["unknown key", "speed"],
        ),
        ("[named.left]\nsource = 'x'", "$.named[...].source", ["'usb'", "'directory'"]),
        ("pair = [1, {source = 'x'}]", "$.pair[1].source", ["'usb'", "'directory'"]),
        ("flags = {slow = true}", "$.flags", ["one of its keys", "'slow'"]),
        ("flags = {fast = 1}", "$.flags[...]", ["bool", "int"]),
        ("wait-s = ]", "$", ["not TOML", "line 1"]),
        ("wait-s = 1\nwait-s = 2\n", "$", ["not TOML", "overwrite"]),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, text: str, key_path: str, words: list[str]) -> None:
    """The error says in which file, at which key, what is wrong and what is allowed."""
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)

    assert caught.value.key_path == key_path
    assert [word for word in words if word not in caught.value.problem] == []
    assert str(caught.value) == f"{tmp_path}/edge.toml: {key_path}: {caught.value.problem}"


def test_another_encoding_is_named(tmp_path: Path) -> None:
    """A file that an editor saved as GBK is told from a wrong one."""
    (tmp_path / "edge.toml").write_bytes("wait-s = 1 # 等".encode("gbk"))

    with pytest.raises(SettingsError, match="not UTF-8"):
        load_toml(tmp_path / "edge.toml", Config)


def test_a_type_that_toml_cannot_say_is_our_bug(tmp_path: Path) -> None:
    """A configuration type with a field that no file can fill is not the operator's mistake."""
    (tmp_path / "edge.toml").write_text("pattern = 'x'")

    with pytest.raises(NotImplementedError):
        load_toml(tmp_path / "edge.toml", Loose)


def test_a_missing_file_is_our_disks_word(tmp_path: Path) -> None:
    """A file that cannot be read is told as the disk tells it."""
    with pytest.raises(FileNotFoundError):
        load_toml(tmp_path / "edge.toml", Config)
