"""What can stop the edge agent, as a tree.

A verdict about evidence ("digest differs") is data: see protocol.findings.
An exception here means that the agent could not finish a step.
"""

from typing import ClassVar

from runtime.errors import Retry


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


class SourceUnreadableError(IngestError):
    """The recorder is there, but this file, or a part of it, cannot be read."""

    code = "E-ING-203"
    retry = Retry.NEXT_DOCKING


class ProfileError(IngestError):
    """A model's profile is wrong: the file and the key are named."""

    code = "E-ING-204"
    retry = Retry.NEVER
