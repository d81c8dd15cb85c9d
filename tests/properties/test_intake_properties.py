"""Whatever comes in, in whatever order: a verdict for every message, one bag for every group."""

import asyncio
import hashlib
import json
import shutil
import tempfile
from pathlib import Path

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from protocol.chain import GENESIS
from protocol.envelope import keyring, open_statement, seal, take_apart
from protocol.identifiers import RecorderId
from protocol.manifest import RecorderFacts
from protocol.receipt import Receipt, check_receipt
from protocol.versions import Statement
from server_agent.intake.alerts import read_alert
from server_agent.intake.checks import Accepted, History, Refused, Waiting, examine, read_claim
from tests.server.test_admission_checks import DOCK, KEY, SITE, TOPIC
from tests.simulators.archive_site import DOCK as SITE_DOCK
from tests.simulators.archive_site import lay_out_site
from tests.simulators.claims import RECORDER, Claim, Claimant
from tests.simulators.intake_bench import IntakeBench

GOOD = Claimant(DOCK, KEY).claim(recordings=[[b"clip"]], others=[b"log"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
# Few contents, so that the same one comes again; one is empty, some longer than a chunk.
CONTENTS = (b"", b"a", b"bb", b"a clip of more than seven bytes", b"another clip")
SECOND = replace(RECORDER, recorder_id=RecorderId("R-0002"), serial="0000002")
Docking = tuple[list[list[bytes]], list[bytes]]


@given(topic=st.text() | st.just(TOPIC), untrusted=st.binary())
def test_any_bytes_have_a_verdict(topic: str, untrusted: bytes) -> None:
    """No bytes on any topic raise; random ones are refused and take no place in a chain."""
    verdict = read_claim(topic, untrusted, site=SITE)

    assert isinstance(verdict, Refused)
    assert not verdict.keeps_place


@given(payload=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_signed_payload_has_a_verdict(payload: bytes) -> None:
    """Whatever a dock signs has a verdict: its key makes nothing true, and nothing crash."""
    verdict = read_claim(TOPIC, seal(payload, Statement.MANIFEST, KEY), site=SITE)

    assert isinstance(verdict, Refused)


@given(
    field=st.sampled_from(sorted(json.loads(take_apart(GOOD.envelope).payload))),
    value=JSON,
)
def test_any_field_with_any_value_has_a_verdict(field: str, value: object) -> None:
    """A good manifest with anything in one of its fields is accepted or refused, never a crash."""
    changed = json.loads(take_apart(GOOD.envelope).payload) | {field: value}
    envelope = seal(json.dumps(changed).encode(), Statement.MANIFEST, KEY)

    verdict = examine(TOPIC, envelope, site=SITE, history=lambda _claim: History(head=GENESIS))

    assert isinstance(verdict, Accepted | Refused | Waiting)


@given(data=st.data())
def test_a_changed_byte_changes_nothing_that_was_signed(data: st.DataObject) -> None:
    """Whichever byte of a good message is changed: it is refused, or it says the very same."""
    position = data.draw(st.integers(0, len(GOOD.envelope) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != GOOD.envelope[position]))
    changed = GOOD.envelope[:position] + bytes([other]) + GOOD.envelope[position + 1 :]

    verdict = examine(TOPIC, changed, site=SITE, history=lambda _claim: History(head=GENESIS))

    if isinstance(verdict, Accepted):
        assert verdict.claim.sealed == take_apart(GOOD.envelope)


@given(untrusted=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_alert_has_a_verdict(untrusted: bytes) -> None:
    """No bytes on an alerts topic raise."""
    assert isinstance(read_alert(DOCK, untrusted, site=SITE), Refused)


@st.composite
def dockings(draw: st.DrawFn) -> Docking:
    """Draw up to two recordings and other files; a manifest lists each content once."""
    contents = draw(st.lists(st.sampled_from(CONTENTS), unique=True))
    groups: list[list[bytes]] = [[], [], []]
    for content in contents:
        groups[draw(st.integers(0, 2))].append(content)
    return [group for group in groups[:2] if group], groups[2]


class Intake(RuleBasedStateMachine):
    """One dock and one archive: manifests, uploads, bags and restarts, in any order."""

    claims: Bundle[Claim] = Bundle("claims")

    @initialize()
    def start(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        site = lay_out_site(self.root)
        site.recorders.append(SECOND)
        site.write_registry()
        self.runner = asyncio.Runner()
        self.bench = IntakeBench(site)
        self.claimant = Claimant(SITE_DOCK, site.key(SITE_DOCK))
        self.made: list[Claim] = []
        self.runner.run(self.bench.start())

    @rule(target=claims, docking=dockings(), recorder=st.sampled_from([RECORDER, SECOND]))
    def seal(self, docking: Docking, recorder: RecorderFacts) -> Claim:
        recordings, others = docking
        claim = self.claimant.claim(recordings=recordings, others=others, recorder=recorder)
        self.made.append(claim)
        return claim

    @rule(batch=st.lists(claims, min_size=1, max_size=4))
    def publish(self, batch: list[Claim]) -> None:
        self.runner.run(self.bench.publish(batch))

    @rule(claim=claims, data=st.data())
    def send(self, claim: Claim, data: st.DataObject) -> None:
        """Send a file, or a part of it, whether it is wanted or not."""
        for content in data.draw(st.lists(st.sampled_from(CONTENTS), max_size=3)):
            cut = data.draw(st.none() | st.integers(0, len(content)))
            self.runner.run(self.bench.upload(claim, content, until_bytes=cut))

    @rule(claim=claims)
    def send_what_is_missing(self, claim: Claim) -> None:
        for digest in self.bench.missing(claim):
            assert self.runner.run(self.bench.upload(claim, claim.contents[digest]))

    @rule()
    def archive(self) -> None:
        self.runner.run(self.bench.archive())

    @rule()
    def restart(self) -> None:
        self.runner.run(self.bench.stop())
        self.runner.run(self.bench.start())

    @invariant()
    def a_receipt_means_that_all_is_archived(self) -> None:
        if not hasattr(self, "bench"):
            return
        for claim in self.made:
            for envelope in self.bench.receipts[claim.manifest.manifest_id]:
                self._check(claim, envelope)

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            return
        try:
            self._deliver_everything()
        finally:
            self.runner.run(self.bench.stop())
            self.runner.close()
            for folder in (self.root, *self.root.rglob("*/")):
                folder.chmod(0o700)
            shutil.rmtree(self.root)

    def _deliver_everything(self) -> None:
        """A dock that asks long enough gets every receipt; each group then stands once."""
        for claim in self.made:
            self.runner.run(self.bench.publish([claim]))
            self.send_what_is_missing(claim)
            self.archive()
        self.runner.run(self.bench.publish(self.made))
        groups = 0
        for claim in self.made:
            said = self.bench.receipts[claim.manifest.manifest_id]
            assert said
            assert len(set(said)) == 1
            receipt = self._check(claim, said[0])
            groups += sum(not bag.existing for bag in receipt.bags)
        bags = {path.parent.parent for path in self.bench.payload_files()}
        assert len(bags) == groups

    def _check(self, claim: Claim, envelope: bytes) -> Receipt:
        receipt = open_statement(
            envelope, Statement.RECEIPT, Receipt, keyring(self.bench.site.archive_key)
        )
        assert check_receipt(receipt, claim.manifest, payload_sha256=claim.payload_sha256) == ()
        standing: set[str] = set()
        for bag in receipt.bags:
            for path in (self.bench.site.archive / bag.path / "data").iterdir():
                standing.add(hashlib.sha256(path.read_bytes()).hexdigest())
        assert claim.contents.keys() <= standing
        return receipt


TestIntake = Intake.TestCase
# Not shrunk: every step syncs a real disk, and hundreds of runs would outlast any patience.
TestIntake.settings = settings(
    max_examples=15, stateful_step_count=25, phases=set(Phase) - {Phase.shrink, Phase.explain}
)
