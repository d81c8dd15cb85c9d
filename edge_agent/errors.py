"""What can stop the edge agent, as a tree.

A verdict about evidence ("digest differs") is data: see protocol.findings.
An exception here means that the agent could not finish a step.
"""

from typing import ClassVar

from runtime.errors import Retry as Retry  # noqa: PLC0414 - mounting.errors is of this tree, too


class EdgeError(Exception):
    """Base of every error that the edge agent raises on purpose.

    Subclasses set both class variables: ``code`` is stable and documented in
    docs/errors.md; ``retry`` is read by the caller, which never parses text.
    """

    code: ClassVar[str]
    retry: ClassVar[Retry]


class IllegalTransitionError(EdgeError):
    """A bay or a manifest was told to do something its table does not allow: our bug."""

    code = "E-BAY-101"
    retry = Retry.NEVER


class IngestError(EdgeError):
    """Base of errors while reading from a docked recorder."""


class SourceVanishedError(IngestError):
    """The recorder left the bay while it was being read."""

    code = "E-ING-201"
    retry = Retry.NEXT_DOCKING


class SizeMismatchError(IngestError):
    """A file did not have the size that its directory entry gives."""

    code = "E-ING-202"
    retry = Retry.NEXT_DOCKING

    def __init__(self, untrusted_path: bytes, *, expected_bytes: int, read_bytes: int) -> None:
        super().__init__(
            f"{untrusted_path!r}: {read_bytes} bytes where {expected_bytes} are listed"
        )
        self.untrusted_path = untrusted_path
        self.expected_bytes = expected_bytes
        self.read_bytes = read_bytes


class SourceUnreadableError(IngestError):
    """The recorder is there, but this file, or a part of it, cannot be read."""

    code = "E-ING-203"
    retry = Retry.NEXT_DOCKING


class SourceChangedError(IngestError):
    """A file was written while it was read: what was read may be no state that it ever had."""

    code = "E-ING-209"
    retry = Retry.NEXT_DOCKING


class SourceUnsteadyError(SourceUnreadableError):
    """A file gave other bytes each time it was read."""

    code = "E-ING-210"
    retry = Retry.NEXT_DOCKING


class ProfileError(IngestError):
    """A model's profile is wrong: the file and the key are named."""

    code = "E-ING-204"
    retry = Retry.NEVER


class UploadError(EdgeError):
    """Base of errors while bytes go to the archive; the staged copy stays whatever happens."""


class ArchiveUnreachableError(UploadError):
    """There is no connection to the archive, or it broke and did not come back in time."""

    code = "E-TUS-101"
    retry = Retry.SOON


class ArchiveBusyError(UploadError):
    """The archive asks to come back later.

    Attributes:
        retry_after_s: When, if it said so.
    """

    code = "E-TUS-102"
    retry = Retry.SOON

    def __init__(self, text: str, *, retry_after_s: int | None) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class ArchiveFullError(UploadError):
    """The archive has no room; somebody must make some."""

    code = "E-TUS-103"
    retry = Retry.SOON


class UploadRefusedError(UploadError):
    """The archive does not want this file now; the manifest has to be admitted again first.

    Attributes:
        status: The HTTP status.
        archive_code: The archive's own code, if it gave one.
    """

    code = "E-TUS-104"
    retry = Retry.NEVER

    def __init__(self, text: str, *, status: int, archive_code: str | None) -> None:
        super().__init__(text)
        self.status = status
        self.archive_code = archive_code


class UploadRestartedError(UploadError):
    """What arrived did not have the promised digest; the archive starts the file again."""

    code = "E-TUS-105"
    retry = Retry.SOON


class ArchiveAnswerError(UploadError):
    """The archive's answer breaks the contract of docs/architecture.md."""

    code = "E-TUS-106"
    retry = Retry.NEVER


class StagedCopyDamagedError(UploadError):
    """The dock's own copy no longer has the digest that its manifest promises."""

    code = "E-TUS-107"
    retry = Retry.NEXT_DOCKING


class OffsetConflictError(UploadError):
    """The archive has another number of bytes than we thought."""

    code = "E-TUS-108"
    retry = Retry.SOON


class UploadGoneError(UploadError):
    """The archive does not know the upload any more; it has to be created again."""

    code = "E-TUS-109"
    retry = Retry.SOON


class UnidentifiedRecorderError(IngestError):
    """No profile fits the volume, or what it says about itself is missing or contradicts itself."""

    code = "E-ING-205"
    retry = Retry.NEXT_DOCKING


class UnregisteredRecorderError(IngestError):
    """The recorder says who it is, and the site's registry does not know it."""

    code = "E-ING-206"
    retry = Retry.NEXT_DOCKING


class RecorderBusyError(IngestError):
    """A recorder with the same identity is being read in another bay."""

    code = "E-ING-207"
    retry = Retry.SOON


class CopyStoppedError(IngestError):
    """The agent is stopping: the copy stands where it was, ready to be resumed."""

    code = "E-ING-208"
    retry = Retry.NEXT_DOCKING


class StagingError(EdgeError):
    """Base of errors about the dock's own copies; a bare OSError is the disk's own word."""


class CopyDiffersError(StagingError):
    """A copy, read back from our disk, is not what was written; it was deleted."""

    code = "E-STG-302"
    retry = Retry.SOON

    def __init__(self, file_id: str, *, written_sha256: str, found_sha256: str) -> None:
        super().__init__(f"{file_id}: {written_sha256} was written, {found_sha256} was read back")
        self.file_id = file_id
        self.written_sha256 = written_sha256
        self.found_sha256 = found_sha256


class ForeignStagingError(StagingError):
    """Staging holds copies of which this journal knows nothing; starting would part them."""

    code = "E-CFG-604"
    retry = Retry.NEVER


class JournalError(EdgeError):
    """Base of errors about the journal's content; a bare sqlite3.Error is the database's word."""


class JournalVersionError(JournalError):
    """The journal was written by a newer release."""

    code = "E-JRN-401"
    retry = Retry.NEVER


class JournalContradictionError(JournalError):
    """A row is not in the state that a step starts from: our bug; nothing was changed."""

    code = "E-JRN-402"
    retry = Retry.NEVER


class ControlError(EdgeError):
    """Base of errors on the agent's own socket."""


class ControlRequestError(ControlError):
    """What came over the socket is no request."""

    code = "E-CTL-501"
    retry = Retry.NEVER


class AgentNotRunningError(ControlError):
    """Nobody answers on the agent's socket."""

    code = "E-CTL-502"
    retry = Retry.SOON


class AgentRunningError(ControlError):
    """Another agent uses this socket or this journal already."""

    code = "E-CTL-503"
    retry = Retry.NEVER


class ControlDeniedError(ControlError):
    """The agent's socket is for its own user and group."""

    code = "E-CTL-505"
    retry = Retry.NEVER


class ControlAnswerError(ControlError):
    """The agent's answer is none that this release understands."""

    code = "E-CTL-504"
    retry = Retry.NEVER


class ControlBusyError(ControlError):
    """As many are asking the agent as it answers at a time."""

    code = "E-CTL-506"
    retry = Retry.SOON


class ConfigUnreadableError(EdgeError):
    """The configuration file cannot be read at all."""

    code = "E-CFG-601"
    retry = Retry.NEVER


class LightsError(EdgeError):
    """Base of what keeps bays' lights from saying what they should."""

    retry = Retry.SOON


class LampFailedError(LightsError):
    """A lamp of the kernel's LED class cannot be written."""

    code = "E-LGT-101"


class ChargerFailedError(LightsError):
    """The charger's controller cannot be reached, or does not keep to its protocol."""

    code = "E-LGT-102"


class GuardError(EdgeError):
    """The no-internet rule cannot be looked after."""

    code = "E-ISO-109"
    retry = Retry.SOON


class AttestationsError(EdgeError):
    """The attestations that this dock keeps cannot be gone on with."""

    code = "E-ISO-112"
    retry = Retry.NEVER


class UsbDescriptorsError(GuardError):
    """A USB device's descriptors do not add up: what it is, nobody can tell. It is refused."""


class ProvisioningError(EdgeError):
    """Base of what keeps a USB key from making this machine a dock."""

    retry = Retry.NEVER


class AlreadyDockError(ProvisioningError):
    """This machine has a configuration, which no USB key replaces."""

    code = "E-PRV-101"


class UnusableDockKeyError(ProvisioningError):
    """A USB key does not say what a dock needs, or this machine cannot be that dock."""

    code = "E-PRV-102"


class DriverError(EdgeError):
    """Base of errors while talking to a recorder; none of them names a password."""


class NoAnswerError(DriverError):
    """The recorder did not answer in time."""

    code = "E-DRV-101"
    retry = Retry.SOON


class MalformedAnswerError(DriverError):
    """What came is no answer by the driver's protocol, or says what cannot be."""

    code = "E-DRV-102"
    retry = Retry.SOON


class RecorderRefusedError(DriverError):
    """The recorder understood the request and says that it failed.

    Attributes:
        result: The recorder's own code, as it came.
    """

    code = "E-DRV-103"
    retry = Retry.NEXT_DOCKING

    def __init__(self, text: str, *, result: int) -> None:
        super().__init__(text)
        self.result = result


class PasswordRefusedError(DriverError):
    """The recorder does not take the password; another try might lock it."""

    code = "E-DRV-104"
    retry = Retry.NEVER


class PasswordMissingError(DriverError):
    """The recorder asks for a password, and the dock has none for it."""

    code = "E-DRV-105"
    retry = Retry.NEVER


class PortFailedError(DriverError):
    """The serial port cannot be opened, read or written, or is gone.

    Attributes:
        request_sent: Whether the request had been written: it may have been obeyed.
    """

    code = "E-DRV-106"
    retry = Retry.NEXT_DOCKING

    def __init__(self, text: str, *, request_sent: bool) -> None:
        super().__init__(text)
        self.request_sent = request_sent


class UnknownDriverError(DriverError):
    """No driver of this name is installed.

    Attributes:
        installed: The names that there are, sorted.
    """

    code = "E-DRV-107"
    retry = Retry.NEVER

    def __init__(self, name: str, *, installed: tuple[str, ...]) -> None:
        super().__init__(f"{name!r} is no driver; there are: {', '.join(installed) or 'none'}")
        self.installed = installed


class RecorderNotReadyError(DriverError):
    """The recorder understood the request and asks for a moment."""

    code = "E-DRV-108"
    retry = Retry.SOON


class DriverUnusableError(DriverError):
    """A driver is installed, but cannot be loaded, is none, or its name is taken."""

    code = "E-DRV-110"
    retry = Retry.NEVER


class DialogStoppedError(DriverError):
    """The talk with a recorder ended at a step without which there is no volume."""

    code = "E-DRV-112"
    retry = Retry.SOON


class VolumeMissingError(DriverError):
    """A recorder was told to become a disk, and none came."""

    code = "E-DRV-113"
    retry = Retry.SOON
