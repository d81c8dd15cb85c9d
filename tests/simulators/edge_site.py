"""What a dock needs on its disk: keys, certificates, folders, edge.toml."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from protocol.keys import SigningKey, VerifyingKey
from runtime.keys import load_certificate_key, load_signing_key
from tests.simulators.certificates import Authority, Pair
from tests.simulators.sealed_manifests import DOCK

PROFILES: Final = Path(__file__).parents[2] / "profiles"


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSite:
    """A dock's folder; the configuration names everything relative to itself."""

    root: Path
    authority: Authority
    archive_tls: Pair
    archive_signing: Pair

    @property
    def config(self) -> Path:
        """Where edge.toml is."""
        return self.root / "edge.toml"

    @property
    def socket(self) -> Path:
        """Where the agent answers."""
        return self.root / "control.socket"

    @property
    def archive_key(self) -> SigningKey:
        """What the archive signs with."""
        return load_signing_key(self.archive_signing.key)

    @property
    def dock_key(self) -> VerifyingKey:
        """What the dock's manifests are verified with."""
        return load_certificate_key(self.root / f"pki/{DOCK}/signing.pem")

    def bay(self, number: int) -> Path:
        """The folder that stands for what is docked in a bay."""
        return self.root / "bays" / str(number)

    def edge_toml(self, *, mqtt_port: int = 8883, https_port: int = 8443, bays: int = 1) -> str:
        """Return a configuration that works, where those ports answer."""
        tables = "".join(
            f'[[bays]]\nnumber = {number}\nsource = "directory"\npath = "bays/{number}"\n'
            for number in range(1, bays + 1)
        )
        return (
            f'dock = "{DOCK}"\ntimezone = "Asia/Shanghai"\nprofiles = "{PROFILES}"\n'
            f'[archive]\nmqtt_host = "127.0.0.1"\nmqtt_port = {mqtt_port}\n'
            f'url = "https://127.0.0.1:{https_port}"\n'
            'signing_certificate = "pki/archive/signing.pem"\n'
            f'[tls]\nca = "pki/ca.pem"\ncertificate = "pki/{DOCK}/tls.pem"\n'
            f'key = "pki/{DOCK}/tls.key"\n'
            f'[signing]\nkey = "pki/{DOCK}/signing.key"\n'
            '[storage]\nstaging = "staging"\njournal = "journal.sqlite"\nmin_free_bytes = 0\n'
            "low_water_bytes = 0\n"
            '[control]\nsocket = "control.socket"\n'
            "[uplink]\nreconcile_s = 1\n"
            f'[log]\nlevel = "debug"\n{tables}'
        )


def lay_out_edge_site(root: Path) -> EdgeSite:
    """Issue everything below *root* and write edge.toml."""
    authority = Authority(root / "pki")
    authority.issue_tls(DOCK)
    authority.issue_signing(DOCK)
    site = EdgeSite(
        root=root,
        authority=authority,
        archive_tls=authority.issue_tls("archive"),
        archive_signing=authority.issue_signing("archive"),
    )
    (root / "bays").mkdir()
    site.config.write_text(site.edge_toml())
    return site
