"""A site around the real archive: authority, certificates, broker, registry.toml, server.toml."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from protocol.identifiers import DockId
from protocol.keys import SigningKey, VerifyingKey
from protocol.manifest import RecorderFacts
from runtime.keys import load_certificate_key, load_signing_key
from server_agent.broker.configuration import BrokerSettings, acl, mosquitto_conf
from server_agent.config import ServerConfig, load_config
from tests.simulators.broker import HOST, Broker
from tests.simulators.certificates import Authority, Pair
from tests.simulators.claims import OFFICER, RECORDER

DOCK: Final = DockId("dock-01")
OTHER_DOCK: Final = DockId("dock-02")


@dataclass(slots=True, kw_only=True)
class ArchiveSite:
    """The files of a site below ``root``.

    Attributes:
        recorders: What registry.toml lists; write_registry writes it.
    """

    root: Path
    authority: Authority
    docks: tuple[DockId, ...]
    tls: dict[str, Pair]
    signing: dict[str, Pair]
    mqtt_port: int = 1
    https_port: int = 0
    recorders: list[RecorderFacts] = field(default_factory=lambda: [RECORDER])

    @property
    def archive(self) -> Path:
        """The archive's tree."""
        return self.root / "archive"

    @property
    def config_file(self) -> Path:
        """Where server.toml is."""
        return self.root / "server.toml"

    @property
    def archive_key(self) -> VerifyingKey:
        """What answers are verified with."""
        return load_certificate_key(self.signing["archive"].certificate)

    def key(self, dock: DockId) -> SigningKey:
        """What a dock signs with."""
        return load_signing_key(self.signing[dock].key)

    def write_registry(self) -> None:
        """Write registry.toml."""
        docks = "".join(
            f'[[docks]]\ndock = "{dock}"\nname = "{dock}"\ncertificate = "pki/{dock}/signing.pem"\n'
            for dock in self.docks
        )
        recorders = "".join(
            f'[[recorders]]\nrecorder = "{one.recorder_id}"\nmake = "{one.make}"\n'
            f'model = "{one.model}"\nserial = "{one.serial}"\nofficer = "{OFFICER}"\n'
            for one in self.recorders
        )
        officer = f'[[officers]]\nofficer = "{OFFICER}"\nname = "某人"\nsection = "稽查科"\n'
        (self.root / "registry.toml").write_text(docks + officer + recorders)

    def configure(self) -> ServerConfig:
        """Write server.toml for the ports that are known now, and read it."""
        self.config_file.write_text(
            'registry = "registry.toml"\n'
            '[archive]\nroot = "archive"\n'
            '[catalogue]\nurl = "sqlite+aiosqlite:///catalogue.sqlite"\n'
            f'[mqtt]\nhost = "{HOST}"\nport = {self.mqtt_port}\n'
            f'[https]\nhost = "{HOST}"\nport = {self.https_port}\n'
            '[commands]\nsocket = "cmd.sock"\n'
            '[tls]\nca = "pki/ca.pem"\ncertificate = "pki/archive/tls.pem"\n'
            'key = "pki/archive/tls.key"\n'
            '[signing]\nkey = "pki/archive/signing.key"\n'
            'certificate = "pki/archive/signing.pem"\n'
            "[limits]\nkeep_free_bytes = 0\n"
            '[log]\nlevel = "debug"\n'
        )
        return load_config(self.config_file)

    def broker(self) -> Broker:
        """Return this site's broker, with the product's own configuration; it does not run yet."""
        folder = self.root / "mosquitto"
        (folder / "data").mkdir(parents=True)
        (folder / "acl").write_text(acl())
        broker = Broker(folder / "run", configure=lambda port: self._broker_conf(folder, port))
        self.mqtt_port = broker.port
        return broker

    def _broker_conf(self, folder: Path, port: int) -> str:
        return mosquitto_conf(
            BrokerSettings(
                host=HOST,
                port=port,
                ca=self.authority.ca,
                certificate=self.tls["broker"].certificate,
                key=self.tls["broker"].key,
                acl=folder / "acl",
                data=folder / "data",
                run_as="root" if os.geteuid() == 0 else None,
            )
        )


def lay_out_site(root: Path, *, docks: Sequence[DockId] = (DOCK, OTHER_DOCK)) -> ArchiveSite:
    """Issue everything below *root*, and write registry.toml."""
    authority = Authority(root / "pki")
    site = ArchiveSite(
        root=root,
        authority=authority,
        docks=tuple(docks),
        tls={name: authority.issue_tls(name) for name in ("archive", "broker", *docks)},
        signing={name: authority.issue_signing(name) for name in ("archive", *docks)},
    )
    site.write_registry()
    return site
