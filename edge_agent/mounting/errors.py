"""What keeps a recorder's volume from being mounted, or its footage from being erased."""

from edge_agent.errors import EdgeError, Retry


class MountError(EdgeError):
    """Base of what keeps a recorder's volume from being mounted."""


class UnknownFileSystemError(MountError):
    """There is none of the file systems that recorders use."""

    code = "E-MNT-101"
    retry = Retry.NEXT_DOCKING


class NotReadOnlyError(MountError):
    """The kernel did not make the device read-only: it is not touched any further."""

    code = "E-MNT-102"
    retry = Retry.NEXT_DOCKING


class MountRefusedError(MountError):
    """The kernel, or the device, did not let the volume be mounted."""

    code = "E-MNT-103"
    retry = Retry.SOON


class NoDiskError(MountError):
    """No disk is at the bay's ports, or not any more."""

    code = "E-MNT-104"
    retry = Retry.SOON


class NotAUsbBayError(MountError):
    """The configuration has no USB bay of this number."""

    code = "E-MNT-105"
    retry = Retry.NEVER


class StrangeDeviceError(MountError):
    """What stands under the device's name is not the device that the kernel listed."""

    code = "E-MNT-106"
    retry = Retry.NEXT_DOCKING


class MountServiceError(MountError):
    """edge-mount does not answer, or not as it should."""

    code = "E-MNT-107"
    retry = Retry.SOON


class EvidenceError(MountError):
    """What was handed over does not prove that the archive has all of a recorder's footage."""

    code = "E-MNT-109"
    retry = Retry.NEXT_DOCKING


class NotArchivedError(MountError):
    """A recorder holds something that no receipt is about, or not what it held when docked."""

    code = "E-MNT-110"
    retry = Retry.NEXT_DOCKING


class MayNotEraseError(MountError):
    """This machine, or the site, does not let footage be erased from recorders."""

    code = "E-MNT-111"
    retry = Retry.NEVER


class ArchiveForgotError(MountError):
    """The archive has lost something since it gave its receipts: they prove nothing any more."""

    code = "E-MNT-113"
    retry = Retry.NEXT_DOCKING


class TooManyVolumesError(MountError):
    """What is in the bay shows more disks, partitions or volumes than any recorder has."""

    code = "E-MNT-114"
    retry = Retry.NEXT_DOCKING


class BayBusyError(MountError):
    """The bay has not ended what it was asked before, and as much again waits for it."""

    code = "E-MNT-115"
    retry = Retry.SOON


class EraseFailedError(MountError):
    """A recorder's footage could not be erased, or not all of it; everything is archived."""

    code = "E-MNT-112"
    retry = Retry.NEXT_DOCKING
