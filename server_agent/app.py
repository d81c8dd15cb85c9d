"""The archive's wiring: who is given what, what starts when, what ends in which order."""

import asyncio
import contextlib
import os
import pwd
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Final

import structlog
import uvloop
from sqlalchemy.engine import make_url

from protocol.commands import CommandAnswer
from protocol.envelope import MAX_PACKET_BYTES
from protocol.keys import SigningKey
from runtime.errors import RuntimeFault
from runtime.keys import load_certificate_key, load_signing_key
from runtime.link import LinkSettings
from runtime.service import keep_watchdog, notify, stop_event
from runtime.tls import client_context, server_context
from server_agent.adapters.bag_writer import BagWriter
from server_agent.adapters.catalogue_store import CatalogueStore, open_catalogue
from server_agent.adapters.command_socket import Request, serve_commands
from server_agent.adapters.intake_link import CLIENT_ID, IntakeLink
from server_agent.adapters.log_files import LogFiles
from server_agent.adapters.tus_endpoint import TusEndpoint, serve_tus
from server_agent.adapters.uploads import UploadLimits, Uploads
from server_agent.admitting import Admitter
from server_agent.alarms import Alarms
from server_agent.archive.layout import CUSTODY
from server_agent.archiving import Archiver
from server_agent.arrivals import Arrivals
from server_agent.attesting import AttestationIntake, is_attestation
from server_agent.catalogue.book import Received
from server_agent.commanding import CommandOffice
from server_agent.config import ServerConfig, Signing
from server_agent.custody import CustodyLog
from server_agent.errors import RegistryFileError, ServerError, SigningKeyError
from server_agent.intake.offsets import UploadFault
from server_agent.registering import InForce, issue_registry
from server_agent.signing import Answer, Signer

_SWEEP_S: Final = 300.0
# How many messages the broker may have on their way to us: of the largest, they are 256 MiB.
_RECEIVE_MAXIMUM: Final = 8

_log = structlog.get_logger(__name__)


def utc_now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


class Server:
    """A running archive; from `serve`."""

    def __init__(
        self, config: ServerConfig, store: CatalogueStore, signer: Signer, in_force: InForce
    ) -> None:
        self.https_port = 0
        self._config = config
        self._store = store
        self._signer = signer
        self._in_force = in_force
        self.alarms = Alarms(store, signer)
        self.custody = CustodyLog(
            store, LogFiles(config.archive.root / CUSTODY), signer=signer, alarms=self.alarms
        )
        arrivals, matched = Arrivals(), Arrivals()
        self.admitter = Admitter(
            store,
            signer=signer,
            alarms=self.alarms,
            site=in_force.site,
            matched=matched.put_nowait,
            custody=self.custody,
        )
        self.attesting = AttestationIntake(store, signer=signer, custody=self.custody)
        self.link = IntakeLink(
            _link_settings(config),
            take=self._take,
            registry=lambda: self._in_force.envelope,
            answered=self._command_answered,
            watched=self._take_watched,
        )
        self.commands = CommandOffice(
            signer,
            docks=lambda: frozenset(self._in_force.site.docks),
            publish=self.link.publish,
        )
        bags = BagWriter(config.archive.root, organisation=config.archive.organisation)
        self.uploads = Uploads(
            store, bags, arrived=arrivals.put_nowait, limits=_upload_limits(config)
        )
        self.archiver = Archiver(
            store,
            bags,
            self.uploads,
            signer=signer,
            alarms=self.alarms,
            ca_pem=config.tls.ca.read_bytes(),
            arrivals=arrivals,
            matched=matched,
            publish=self.link.publish,
            custody=self.custody,
        )
        self.endpoint = TusEndpoint(
            self.uploads,
            docks=lambda: self._in_force.site.docks,
            on_disk_failure=self._report_disk_failure,
            stall_timeout_s=config.limits.stall_timeout_s,
        )

    @property
    def registry_version(self) -> int:
        """Which registry is in force."""
        return self._in_force.version

    async def _take(self, messages: Sequence[Received]) -> list[Answer]:
        """Take in a batch; all of it comes again if a part of it fails, which changes nothing."""
        attestations = [one for one in messages if is_attestation(one)]
        others = [one for one in messages if not is_attestation(one)]
        answers = await self.admitter.take(others) if others else []
        if attestations:
            answers += await self.attesting.take(attestations, self._in_force.site)
        return answers

    def _command_answered(self, answer: CommandAnswer) -> None:
        self.commands.answered(answer)

    async def _take_watched(self, received: Received) -> None:
        await self.custody.watchers.take(received, self._in_force.site)

    async def obey(self, request: Request) -> CommandAnswer:
        """Have a dock do what a program on this machine asks for."""
        return await self.commands.ask(
            request.dock,
            request.verb,
            asked_by=request.asked_by,
            bay=request.bay,
            seconds=request.seconds,
        )

    async def reload_registry(self) -> None:
        """Read the registry's file again; while it cannot be used, the last good one holds."""
        async with self.alarms.outliving("read the registry again"):
            try:
                in_force = await _read_registry(self._config, self._store, self._signer)
            except (ServerError, RuntimeFault, OSError) as error:
                code = RegistryFileError.code if isinstance(error, OSError) else error.code
                await self.alarms.sound(
                    code,
                    "The registry's file cannot be used; the last good one stays in force.",
                    {"problem": str(error)},
                )
                return
            self._in_force = in_force
            self.admitter.site = in_force.site
            self.link.publish_registry()

    async def keep_up(self) -> None:
        """Admit what an earlier run left waiting; then try again what failed, until cancelled."""
        await self._promote()
        while True:
            await asyncio.sleep(_SWEEP_S)
            async with self.alarms.outliving("sweep"):
                await self.archiver.sweep()
            self.custody.tell()
            await self._promote()
            async with self.alarms.outliving("look which docks attest"):
                await self.attesting.note_silence(self._in_force.site)
            async with self.alarms.outliving("let uploads expire"):
                expired = await self.uploads.expire()
                if expired:
                    _log.info("uploads expired", files=expired)

    async def _promote(self) -> None:
        async with self.alarms.outliving("admit what waited"):
            for answer in await self.admitter.promote_all():
                self.link.publish(answer)

    async def _report_disk_failure(self, error: OSError) -> None:
        await self.alarms.sound(
            UploadFault.DISK_FAILED.value,
            "The archive's disk failed, or is full, while a dock sent a file.",
            {"error": error.strerror or repr(error)},
        )


@contextlib.asynccontextmanager
async def serve(
    config: ServerConfig,
    *,
    clock: Callable[[], datetime] = utc_now,
    entropy: Callable[[int], bytes] = os.urandom,
) -> AsyncIterator[Server]:
    """Run an archive for the length of the block.

    Raises:
        ServerError, RuntimeFault: The configuration or the catalogue cannot be used.
        OSError: A file cannot be read, or the address cannot be listened on.
        ExceptionGroup: One of the archive's own tasks failed.
    """
    signer = Signer(key=load_signer_key(config.signing), clock=clock, entropy=entropy)
    tls = server_context(ca=config.tls.ca, certificate=config.tls.certificate, key=config.tls.key)
    async with open_catalogue(make_url(config.catalogue.url)) as store:
        server = Server(config, store, signer, await _read_registry(config, store, signer))
        await server.custody.try_seal()
        await server.archiver.reconcile()
        async with (
            _background(server.link.run, server.archiver.run, server.keep_up, server.custody.run),
            serve_tus(
                server.endpoint, host=config.https.host, port=config.https.port, tls=tls
            ) as server.https_port,
            serve_commands(config.commands.socket, server.obey, users=_users(config)),
        ):
            _log.info("listening", host=config.https.host, port=server.https_port)
            yield server
        server.uploads.close()


async def run(config: ServerConfig) -> None:
    """Run the archive until SIGTERM or SIGINT; SIGHUP reads the registry again.

    Raises:
        As `serve`.
    """
    loop = asyncio.get_running_loop()
    with stop_event() as stop:
        async with serve(config) as server, asyncio.TaskGroup() as tasks:
            loop.add_signal_handler(
                signal.SIGHUP,
                lambda: tasks.create_task(server.reload_registry(), name="reload registry"),
            )
            tasks.create_task(keep_watchdog(stop), name="watchdog")
            notify("READY=1")
            await stop.wait()
            loop.remove_signal_handler(signal.SIGHUP)
            notify("STOPPING=1")
            _log.info("stopping")


def run_forever(config: ServerConfig) -> None:
    """Run the archive on its own event loop, as a program does.

    Raises:
        As `serve`.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(config))


def _users(config: ServerConfig) -> frozenset[int]:
    """Return the numbers of users who may ask for commands; one that is not there asks nothing."""
    found = set[int]()
    for name in config.commands.users:
        with contextlib.suppress(KeyError):
            found.add(pwd.getpwnam(name).pw_uid)
    return frozenset(found)


def load_signer_key(signing: Signing) -> SigningKey:
    """Return the archive's private key.

    Raises:
        SigningKeyError: It is not the key of the certificate that docks know.
        RuntimeFault: A file is not what it should be.
        OSError: A file cannot be read.
    """
    key = load_signing_key(signing.key)
    if key.key_id != load_certificate_key(signing.certificate).key_id:
        raise SigningKeyError(f"{signing.key} is not the key of {signing.certificate}")
    return key


async def _read_registry(config: ServerConfig, store: CatalogueStore, signer: Signer) -> InForce:
    return await issue_registry(config.registry, ca=config.tls.ca, store=store, signer=signer)


def _link_settings(config: ServerConfig) -> LinkSettings:
    tls = config.tls
    return LinkSettings(
        host=config.mqtt.host,
        port=config.mqtt.port,
        client_id=CLIENT_ID,
        tls=client_context(ca=tls.ca, certificate=tls.certificate, key=tls.key),
        receive_maximum=_RECEIVE_MAXIMUM,
        max_packet_bytes=MAX_PACKET_BYTES,
    )


def _upload_limits(config: ServerConfig) -> UploadLimits:
    limits = config.limits
    return UploadLimits(
        receiving=limits.receiving,
        receiving_per_dock=limits.receiving_per_dock,
        open_files=limits.open_files,
        keep_free_bytes=limits.keep_free_bytes,
        expiry_s=limits.upload_expiry_s,
    )


@contextlib.asynccontextmanager
async def _background(
    *jobs: Callable[[], Coroutine[None, None, None]],
) -> AsyncIterator[None]:
    """Run *jobs*, which never end by themselves, for the length of the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(job(), name=job.__qualname__) for job in jobs]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
