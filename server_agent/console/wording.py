"""The console's sentences for what others say in codes. Message ids are English.

`N_` marks a sentence for translation; templates translate it. A sentence never contains what a
device or a peer sent.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from protocol.attestation import Occasion
from protocol.commands import CommandOutcome, CommandVerb
from protocol.findings import FindingCode
from protocol.manifest import DateBasis, IncompleteReason, Isolation
from protocol.messages import BayState, Health
from server_agent.access.roles import Role


def N_(message: str) -> str:  # noqa: N802 -- gettext's own name for "translate later"
    """Mark *message* for translation and return it."""
    return message


UNKNOWN: Final = "unknown"

STATES: Final[Mapping[str, str]] = MappingProxyType(
    {
        BayState.EMPTY.value: N_("Empty"),
        BayState.IDENTIFYING.value: N_("Identifying"),
        BayState.INGESTING.value: N_("Ingesting"),
        BayState.SEALED.value: N_("Waiting for receipt"),
        BayState.ERASING.value: N_("Erasing"),
        BayState.RELEASABLE.value: N_("May be taken"),
        BayState.QUARANTINED.value: N_("Refused"),
        BayState.ATTENTION.value: N_("Needs attention"),
        UNKNOWN: N_("No report"),
    }
)

ISOLATION: Final[Mapping[Isolation, str]] = MappingProxyType(
    {
        Isolation.HOLDING: N_("Isolation holds"),
        Isolation.BREACHED: N_("Isolation breached"),
        Isolation.RESTORED: N_("Isolation restored"),
        Isolation.NOT_ENFORCED: N_("Isolation not enforced"),
    }
)

OCCASIONS: Final[Mapping[Occasion, str]] = MappingProxyType(
    {
        Occasion.STARTED: N_("The dock started"),
        Occasion.DAILY: N_("Daily"),
        Occasion.CHANGED: N_("Its state changed"),
        Occasion.ASKED: N_("Asked for"),
    }
)

ROLES: Final[Mapping[Role, str]] = MappingProxyType(
    {
        Role.OFFICER: N_("Officer"),
        Role.DEVICE_ADMINISTRATOR: N_("Device administrator"),
        Role.SECTION_HEAD: N_("Section head"),
        Role.DEPUTY_DIRECTOR: N_("Deputy director"),
        Role.BUREAU_LEADER: N_("Bureau leader"),
        Role.SYSTEM_ADMINISTRATOR: N_("System administrator"),
        Role.AUDITOR: N_("Auditor"),
    }
)

THEMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "auto": N_("Colours: as the system"),
        "light": N_("Colours: light"),
        "dark": N_("Colours: dark"),
    }
)

DATE_BASES: Final[Mapping[DateBasis, str]] = MappingProxyType(
    {
        DateBasis.RECORDER_CLOCK: N_("by the recorder's clock"),
        DateBasis.CORRECTED_CLOCK: N_("by the recorder's clock, corrected"),
        DateBasis.FILE_TIME: N_("by the files' times"),
    }
)

KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {"video": N_("Video"), "audio": N_("Audio"), "photo": N_("Photo")}
)

INCOMPLETE: Final[Mapping[IncompleteReason, str]] = MappingProxyType(
    {
        IncompleteReason.RECORDER_LEFT: N_("the recorder was taken before"),
        IncompleteReason.UNREADABLE: N_("cannot be read whole"),
        IncompleteReason.SIZE_CHANGED: N_("was written while it was read"),
        IncompleteReason.AGENT_STOPPED: N_("reading was stopped"),
        IncompleteReason.NO_SPACE: N_("there was no room on the dock"),
        IncompleteReason.HELD: N_("waits on the dock for other clips of its recording"),
    }
)

HEALTH: Final[Mapping[Health, str]] = MappingProxyType(
    {
        Health.GOOD: N_("Good"),
        Health.UNKNOWN: N_("Not known"),
        Health.SOON: N_("Soon"),
        Health.BAD: N_("Fault"),
    }
)

VERBS: Final[Mapping[CommandVerb, str]] = MappingProxyType(
    {
        CommandVerb.RESCAN: N_("Try recorders again"),
        CommandVerb.IDENTIFY: N_("Show this bay"),
        CommandVerb.COLLECT_LOGS: N_("Collect its log"),
        CommandVerb.RESTART: N_("Start its program anew"),
        CommandVerb.DOCTOR: N_("Examine itself"),
        CommandVerb.ATTEST: N_("Attest that it keeps off the internet"),
    }
)

OUTCOMES: Final[Mapping[CommandOutcome, str]] = MappingProxyType(
    {
        CommandOutcome.DONE: N_("done"),
        CommandOutcome.REFUSED: N_("refused"),
        CommandOutcome.FAILED: N_("failed"),
    }
)

# What docks look at, by the words of `edge-agent doctor`; others are shown as they came.
SUBJECTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "configuration": N_("Configuration"),
        "dock's certificate": N_("The dock's certificate"),
        "site's authority": N_("The site's authority"),
        "archive's certificate": N_("The archive's certificate"),
        "clock": N_("Clock"),
        "staging disk": N_("The dock's disk"),
        "disk health": N_("Health of the disk"),
        "journal": N_("Journal"),
        "broker": N_("Broker"),
        "archive": N_("Archive"),
        "agent": N_("The dock's program"),
        "bay map": N_("Map of the bays"),
        "edge-mount": N_("The dock's mounting service"),
        "no-internet guard": N_("No-internet guard"),
        "archive's address": N_("Archive's address"),
        "archive's signing certificate": N_("Archive's signing certificate"),
        "bays": N_("Bays in the configuration"),
        "bays and storage": N_("Bays and storage"),
        "broker's address": N_("Broker's address"),
        "certificate's name": N_("Name in the certificate"),
        "charger": N_("Charger"),
        "control socket's folder": N_("Folder of the control socket"),
        "control socket's name": N_("Name of the control socket"),
        "dock's name": N_("Dock's name"),
        "journal's folder": N_("Folder of the journal"),
        "profiles": N_("Recorder profiles"),
        "signing key": N_("Signing key"),
        "staging folder": N_("Staging folder"),
        "timezone": N_("Time zone"),
        "TLS identity": N_("TLS identity"),
    }
)

# What docks advise, word for word; anything else is shown as it came, in English.
REMEDIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        one: one
        for one in (
            N_("see what this says, and look again"),
            N_("it hangs: look at the disk or the network behind it"),
            N_("install smartmontools, if the disk can tell"),
            N_("let the archive receive everything, then replace the disk"),
            N_("stop the agent, copy journal and staging away, and report it"),
            N_("look at server-agent's log on the archive machine"),
            N_("look at the cable, the address in edge.toml, and the service there"),
            N_("systemctl start edge-agent; journalctl -u edge-agent"),
            N_("systemctl start edge-mount; journalctl -u edge-mount"),
            N_("set it up: docs/no-internet.md"),
            N_("systemctl status edge-guard"),
            N_("see who did it: `edge-guard status`"),
            N_("remove what it names: `edge-guard status`"),
            N_("end the dry run: dry_run = false in [guard]"),
            N_("issue it anew with `server-agent pki issue` and put it in place; no restart"),
            N_("issue it anew with `server-agent pki issue` before it ends"),
            N_("name your network's time server in /etc/systemd/timesyncd.conf; timedatectl"),
            N_("free the disk, or see why the archive sends no receipts: `edge-agent status`"),
            N_("see with `lsusb -t`; plug the charger in as it was, or `edge-agent map-bays`"),
        )
    }
)

CHARGING: Final[Mapping[str, str]] = MappingProxyType(
    {
        "charging": N_("Charging"),
        "full": N_("Charged"),
        "fault": N_("Does not charge"),
    }
)

EVIDENCE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "L1": N_("L1: digest taken while reading"),
        "L2": N_("L2: L1, and the copy was read back from the disk"),
        "L3": N_("L3: L2, and the recorder was read twice"),
    }
)

# Names of facts that alerts carry; others are shown as they came.
FACTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "model": N_("Model"),
        "serial": N_("Serial number"),
        "recorder": N_("Recorder"),
        "officer": N_("Officer"),
        "bay": N_("Bay"),
        "path": N_("File"),
        "file": N_("File"),
        "files": N_("Files"),
        "sequence": N_("Manifest number"),
        "manifest": N_("Manifest"),
        "manifest_id": N_("Manifest"),
        "part": N_("Part of the program"),
        "sha256": N_("Digest"),
        "topic": N_("Topic"),
        "free_bytes": N_("Free bytes"),
        "needed_bytes": N_("Needed bytes"),
        "drift_s": N_("Clock drift in seconds"),
        "reason": N_("Reason"),
        "volume": N_("Volume"),
        "profile": N_("Profile"),
        "last": N_("Last one"),
    }
)

_FINDINGS: Final[Mapping[FindingCode, str]] = MappingProxyType(
    {
        FindingCode.LINK: N_("A link on the recorder was not followed"),
        FindingCode.SPECIAL_FILE: N_("A device or pipe on the recorder was not opened"),
        FindingCode.PATH_TOO_LONG: N_("A path on the recorder is too long to be read"),
        FindingCode.NAME_NOT_UTF8: N_("A file name is not readable text; its exact bytes are kept"),
        FindingCode.NAMES_DIFFER_BY_CASE: N_("File names differ by capitals alone; both are kept"),
        FindingCode.EMPTY_FILE: N_("A file is empty; it is kept"),
        FindingCode.UNREADABLE_DIRECTORY: N_(
            "A folder could not be listed: dock the recorder again"
        ),
        FindingCode.UNSAFE_NAME: N_(
            "A file name is unsafe on other systems; it is kept in a safe form"
        ),
        FindingCode.TOO_MANY_ENTRIES: N_("The recorder holds too many files: inspect it"),
        FindingCode.FOREIGN_FILE: N_("The recorder holds a file that does not belong there"),
        FindingCode.UNKNOWN_FILE: N_("The recorder holds a file that its profile does not know"),
        FindingCode.IMPLAUSIBLE_TIME: N_("A time cannot be right: check the recorder's clock"),
        FindingCode.SEQUENCE_GAP: N_(
            "Clips are missing between two others: a written reason is needed"
        ),
        FindingCode.RECORDING_INCOMPLETE: N_("A recording lacks clips: dock the recorder again"),
        FindingCode.SAME_CONTENT: N_("Two files have the same content; it is kept once"),
        FindingCode.UNREADABLE_FILE: N_(
            "A file could not be read to its end: dock the recorder again"
        ),
        FindingCode.SIZE_CHANGED: N_("A file is not as long as the recorder says: dock it again"),
        FindingCode.RECORDER_LEFT: N_("The recorder was taken before it was read: dock it again"),
        FindingCode.EVIDENCE_LOWERED: N_("The evidence level asked for could not be proved"),
        FindingCode.COPY_DIFFERED: N_(
            "A copy, read back, differed and was made again: check the dock's disk"
        ),
        FindingCode.CLOCK_WAS_OFF: N_("The recorder's clock was off; the dock knows by how much"),
        FindingCode.SERIAL_DIFFERS: N_(
            "The recorder names itself otherwise than its storage does: inspect it"
        ),
        FindingCode.OFFICER_DIFFERS: N_("The recorder and its storage name two officers"),
        FindingCode.DIALOG_INCOMPLETE: N_("The recorder did not answer all that it was asked"),
        FindingCode.NETWORK_SETTINGS: N_(
            "The recorder is set up to reach a network: clear its settings"
        ),
        FindingCode.UNKNOWN_DOCK: N_("A message came from a dock that is not registered"),
        FindingCode.MESSAGE_TOO_LARGE: N_("A message was too large and was refused"),
        FindingCode.ENVELOPE_MALFORMED: N_("A message was malformed and was refused"),
        FindingCode.SIGNATURE_WRONG: N_(
            "A message was not signed by the dock's key: treat it as forged"
        ),
        FindingCode.STATEMENT_UNREADABLE: N_(
            "A manifest is of a kind that this release cannot read"
        ),
        FindingCode.OTHER_DOCK: N_("A manifest speaks for another dock than the one that sent it"),
        FindingCode.CHAIN_FORKED: N_("A dock signed two histories: this is an incident"),
        FindingCode.UNKNOWN_RECORDER: N_("The recorder is not registered"),
        FindingCode.MANIFEST_CONTRADICTS: N_("A manifest contradicts itself: report it"),
        FindingCode.CHAIN_GAP: N_("An attestation came, and one before it has not"),
        FindingCode.RECEIPT_NOT_SIGNED: N_(
            "A receipt is not signed by the archive: this is an incident"
        ),
        FindingCode.RECEIPT_OTHER_MANIFEST: N_(
            "A receipt belongs to another manifest; the copies stay"
        ),
        FindingCode.RECEIPT_RECORDINGS_DIFFER: N_(
            "A receipt names other recordings; the copies stay"
        ),
        FindingCode.RECEIPT_COUNTS_DIFFER: N_(
            "A receipt counts other files or bytes; the copies stay"
        ),
        FindingCode.LOG_DIFFERS: N_(
            "A dock saw a log that the archive's does not begin with: an incident"
        ),
        FindingCode.BAG_FILE_MISSING: N_("A file is missing in the archive: this is an incident"),
        FindingCode.BAG_DIGEST_DIFFERS: N_(
            "A file in the archive was changed: this is an incident"
        ),
        FindingCode.BAG_FILE_EXTRA: N_("A file was added to the archive: this is an incident"),
        FindingCode.BAG_TAG_MALFORMED: N_("A bag's description is malformed: this is an incident"),
        FindingCode.BAG_TAG_DIFFERS: N_("A bag's description was changed: this is an incident"),
        FindingCode.BAG_SIGNATURE_WRONG: N_(
            "The signature in a bag is not the dock's: this is an incident"
        ),
        FindingCode.BAG_MANIFEST_DIFFERS: N_("A bag's content differs from its signed manifest"),
        FindingCode.BAG_CERTIFICATE_WRONG: N_("A certificate in a bag is not the site's"),
        FindingCode.BAG_UNSAFE_PATH: N_("A bag names a path outside itself: this is an incident"),
    }
)

# What a dock or the archive could not do, as far as it shows at a bay or in an alert.
_ERRORS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "E-APP-701": N_("A part of the dock's program failed and was started again: report it"),
        "E-BAY-101": N_("A fault of the dock's program: report it"),
        "E-BAY-102": N_("The dock has no registry yet: it goes on when the archive sends one"),
        "E-BAY-103": N_("The dock's disk failed once: look at it before it fails for good"),
        "E-BAY-104": N_("The recorder's connector does not hold: clean it, or use another bay"),
        "E-DRV-106": N_("The recorder's serial port failed: dock it again"),
        "E-DRV-107": N_("The bay's driver is not installed: tell the system administrator"),
        "E-DRV-110": N_("The bay's driver cannot be used: tell the system administrator"),
        "E-DRV-112": N_("The recorder did not answer as it should: dock it again"),
        "E-DRV-113": N_("The recorder promised its storage and shows none: dock it again"),
        "E-LGT-101": N_("A lamp of a bay cannot be lit: look here or at the dock's own status"),
        "E-LGT-102": N_("The charger does not answer: its lights and charging are not known"),
        "E-MNT-101": N_("The storage is not formatted as recorders format it: inspect it"),
        "E-MNT-102": N_("The storage could not be protected from writing and was not read"),
        "E-MNT-103": N_("The storage cannot be read: copy it before anything else"),
        "E-MNT-104": N_("The recorder shows no storage: dock it again"),
        "E-MNT-105": N_("The dock's services have different configurations: restart them"),
        "E-MNT-106": N_("The storage is not the device that the dock saw: an incident"),
        "E-MNT-107": N_("The dock's mounting service does not answer"),
        "E-MNT-108": N_("The dock's mounting service was asked wrongly: report it"),
        "E-MNT-109": N_("Not erased: the receipts could not be proved to the dock's own service"),
        "E-MNT-110": N_("Not erased: something on the recorder is not archived. Dock it again"),
        "E-MNT-111": N_("Not erased: this dock is not set up to erase recorders"),
        "E-MNT-113": N_("Not erased: the archive has lost something. Keep the recorder as it is"),
        "E-MNT-114": N_("It shows more disks than any recorder has and was not read: inspect it"),
        "E-MNT-115": N_("The storage does not answer: take the recorder out and dock it again"),
        "E-MNT-112": N_("Not erased, or not all of it: everything is archived"),
        "E-ISO-101": N_("The dock's rules against the internet were changed: they were put back"),
        "E-ISO-102": N_("The dock had a way to another network: it was closed"),
        "E-ISO-103": N_("The dock is told to ask a name server: remove it"),
        "E-ISO-104": N_("Another network interface is at the dock: find out who plugged it in"),
        "E-ISO-105": N_("The dock got an address of another network: it was taken away"),
        "E-ISO-106": N_("The dock was told to let packets through: it was set back"),
        "E-ISO-107": N_("The dock was told to believe any router: it was set back"),
        "E-ISO-108": N_("Whether the dock is isolated cannot be told: look at it"),
        "E-ISO-109": N_("What keeps the dock off the internet does not work: look at it"),
        "E-ISO-110": N_("The dock keeps off the internet again"),
        "E-ISO-111": N_("What keeps the dock off the internet is silent: look at it"),
        "E-ISO-112": N_("The dock's attestations are not whole: find out who changed them"),
        "E-ISO-121": N_("A foreign USB device was refused: find out whose it is"),
        "E-ISO-122": N_("A foreign USB device was in use: it was shut out, find out whose it is"),
        "E-ISO-123": N_("The dock's USB ports let in whatever comes: they were shut again"),
        "E-ISO-124": N_("A technician has opened a USB port of the dock for a while"),
        "E-ISO-125": N_("A radio of the dock was on: it was blocked"),
        "E-ING-201": N_("The recorder was taken while it was being read: dock it again"),
        "E-ING-202": N_("A file is not as long as the recorder says: dock it again"),
        "E-ING-203": N_("The recorder cannot be read in part: dock it again"),
        "E-ING-204": N_("A recorder model's profile is wrong: tell the system administrator"),
        "E-ING-205": N_("The recorder does not say who it is"),
        "E-ING-206": N_("The recorder is not registered"),
        "E-ING-207": N_("The same recorder is being read in another bay"),
        "E-ING-208": N_("Reading was stopped before its end: dock the recorder again"),
        "E-ING-209": N_("A file was written while it was read: dock the recorder again"),
        "E-ING-210": N_("A file reads differently each time: the recorder's storage is failing"),
        "E-OUT-101": N_("The archive answers about a manifest that the dock does not have"),
        "E-OUT-102": N_("Archive and dock say different things of one manifest: an incident"),
        "E-OUT-103": N_("The archive refuses what it gave a receipt for: an incident"),
        "E-OUT-104": N_("The archive lacks a file that the dock has no more: an incident"),
        "E-OUT-105": N_("An old registry was published; the dock does not obey it"),
        "E-OUT-106": N_("Two registries have one version; the dock obeys the first"),
        "E-OUT-107": N_("A message came on a topic that is none of the dock's"),
        "E-OUT-108": N_("The dock cannot read a copy that the archive asks for: look at its disk"),
        "E-OUT-109": N_("The archive was set back to an older state: the dock sends all again"),
        "E-OUT-110": N_("A receipt came without proof that it is logged: it does not count"),
        "E-OUT-111": N_("The archive's log does not go on from what the dock saw: an incident"),
        "E-OUT-112": N_("The archive signed two histories of its log: an incident"),
        "E-OUT-113": N_("A person at a dock let it forget what it saw of the archive's log"),
        "E-RUN-122": N_("The broker refuses the dock: look at its certificate and the access list"),
        "E-STG-301": N_("The dock's disk is full: it goes on when recordings are archived"),
        "E-STG-303": N_("The dock's disk failed: replace it; the recorder has everything"),
        "E-STG-302": N_("A copy differs from what was read: check the dock's disk"),
        "E-TUS-101": N_("The archive cannot be reached; the copies stay on the dock"),
        "E-TUS-102": N_("The archive is busy; the dock tries again"),
        "E-TUS-103": N_("The archive is full: somebody must make room"),
        "E-TUS-104": N_("The archive does not take a file now; the dock asks again"),
        "E-TUS-105": N_("A file arrived damaged and is sent again"),
        "E-TUS-106": N_("The archive's answer breaks the contract: report it"),
        "E-TUS-107": N_("The dock's own copy was damaged: dock the recorder again"),
        "E-TUS-108": N_("Dock and archive count different bytes; the dock asks again"),
        "E-TUS-109": N_("An upload was forgotten and is made again"),
        "E-STG-304": N_(
            "Copies that the dock does not know were put aside: bring its journal back"
        ),
        "E-STG-305": N_(
            "The dock's disk is so full that no recorder is read: find out what fills it"
        ),
        "E-STG-306": N_(
            "The dock waits for room: marked recordings are taken first, the rest follows"
        ),
        "E-STG-307": N_(
            "The dock's disk takes nothing: mend or replace it; the recorders have everything"
        ),
        "E-STG-308": N_("The dock's disk does not answer; the dock waits and goes on by itself"),
        "E-ADM-101": N_("A manifest in the catalogue can no longer be read: report it"),
        "E-ADM-102": N_("A bag waits: the certificate of the dock's old key is missing"),
        "E-ADM-103": N_("A message could not be taken in and is kept: report it"),
        "E-ATT-101": N_("A dock attested two histories: this is an incident"),
        "E-ATT-102": N_("Attestations of a dock are missing: it is asked for them"),
        "E-ATT-103": N_("A dock has not attested for more than a day: look at it"),
        "E-ATT-104": N_("Dock and archive do not have the same attestations: an incident"),
        "E-ATT-105": N_("The archive has lost attestations; the dock sends them again"),
        "E-ARC-101": N_("Files of a bag, read back, are not what was written"),
        "E-ARC-102": N_("Something else stands where a bag belongs: this is an incident"),
        "E-ARC-103": N_("The description of a bag, read back, is not what was written"),
        "E-ARC-104": N_(
            "Something lies in a bag that no manifest promised: find out who put it there"
        ),
        "E-ARC-105": N_("The archive's disk failed; it is tried again: look at the disk"),
        "E-ARC-106": N_("A bag is damaged or gone; docks are asked again: an incident"),
        "E-LOG-101": N_(
            "The custody log was cut or changed; no receipt is sent: this is an incident"
        ),
        "E-LOG-102": N_(
            "The catalogue was older than the custody log; what it lacked was read back"
        ),
        "E-LOG-103": N_("The custody log was signed by another key; no receipt is sent"),
        "E-ARC-111": N_("A newer release has changed the catalogue"),
        "E-ARC-112": N_("The catalogue cannot be read or written; it is tried again"),
        "E-ARC-113": N_("A row of the catalogue is damaged and was skipped: report it"),
    }
)

PROBLEMS: Final[Mapping[str, str]] = MappingProxyType(
    {**{code.value: sentence for code, sentence in _FINDINGS.items()}, **_ERRORS}
)
