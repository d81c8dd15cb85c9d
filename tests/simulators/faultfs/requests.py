# ruff: noqa: ARG002 - pyfuse3 says what its methods take
"""What the kernel asks for, done to the two worlds as the rules say."""

import contextlib
import errno
import os
import stat
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import pyfuse3
import trio

from tests.simulators.faultfs.rules import (
    REFUSED_READ_ONLY,
    Disk,
    Effect,
    Operation,
    Rule,
    Traced,
)
from tests.simulators.faultfs.worlds import Facts, File, Folder, Link, Node, Worlds

_BLOCK_BYTES: Final = 4096
_SHOWN_BYTES: Final = 1 << 40
_SHOWN_NODES: Final = 1 << 20


@dataclass(slots=True, eq=False, kw_only=True)
class Handle:
    """An open file or folder, and of which life of the machine it is."""

    node: Node
    life: int
    listed: tuple[tuple[bytes, Node], ...] = ()


class FaultFs(pyfuse3.Operations):  # type: ignore[misc] # the package ships no types
    """One mounted file system."""

    def __init__(self) -> None:
        super().__init__()
        self.worlds = Worlds()
        self.disk = Disk()
        self.is_down = False
        self._life = 0
        self._handles: dict[int, Handle] = {}
        self._handle_count = 0
        self._released = trio.Event()
        self.stalled = 0

    # What a test asks for.

    def reset(self) -> None:
        """Begin with an empty disk and no rules."""
        self.crash(None)
        self.worlds = Worlds(numbers_from=self.worlds.number())
        self.disk = Disk()
        self.is_down = False

    def crash(self, seed: int | None) -> None:
        """Take the power away."""
        self.worlds.crash(None if seed is None else Random(seed))
        self._life += 1
        self.is_down = True
        self.release_stalled()

    def release_stalled(self) -> None:
        """Let everything go on that waits, and nothing wait any more."""
        for rule in self.disk.rules:
            if rule.effect is Effect.STALL:
                rule.times = rule.hits
        self._released.set()
        self._released = trio.Event()

    # What happens to every operation.

    @contextlib.asynccontextmanager
    async def _operation(
        self, operation: Operation, *nodes: Node, new: str = "", offset: int = 0, size: int = 0
    ) -> AsyncIterator[Rule | None]:
        """Fail, wait or crash as a rule says; yield the rule for what the operation does itself.

        Args:
            operation: What is done.
            nodes: To what; of a new name, in which folders.
            new: The names below these folders, separated by slashes.
            offset: See `Traced`.
            size: See `Traced`.
        """
        if all(map(_is_shared_memory, nodes)):
            yield None
            return
        self._must_be_up()
        paths = tuple(node.path for node in nodes)
        if new:
            paths = tuple(
                f"{path}/{name}".lstrip("/")
                for path, name in zip(paths, new.split("/"), strict=True)
            )
        rule = self.disk.strike(Traced(operation=operation, paths=paths, offset=offset, size=size))
        if self.disk.read_only and operation in REFUSED_READ_ONLY:
            raise pyfuse3.FUSEError(errno.EROFS)
        if rule is not None:
            await self._befall(rule)
        try:
            yield rule
        except OSError as error:
            raise pyfuse3.FUSEError(error.errno) from None
        if rule is not None and rule.effect is Effect.CRASH_AFTER:
            self.crash(rule.value)
            raise pyfuse3.FUSEError(errno.EIO)

    async def _befall(self, rule: Rule) -> None:
        if rule.effect is Effect.ERROR:
            raise pyfuse3.FUSEError(rule.value)
        if rule.effect is Effect.CRASH_BEFORE:
            self.crash(rule.value)
            raise pyfuse3.FUSEError(errno.EIO)
        if rule.effect is Effect.STALL:
            self.stalled += 1
            try:
                await self._released.wait()
            finally:
                self.stalled -= 1
            self._must_be_up()

    def _must_be_up(self) -> None:
        if self.is_down:
            raise pyfuse3.FUSEError(errno.EIO)

    def _node(self, number: int) -> Node:
        node = self.worlds.nodes.get(number)
        if node is None:
            raise pyfuse3.FUSEError(errno.EIO)
        return node

    def _folder(self, number: int) -> Folder:
        node = self._node(number)
        if not isinstance(node, Folder):
            raise pyfuse3.FUSEError(errno.ENOTDIR)
        return node

    def _open_handle(self, node: Node) -> int:
        self._handle_count += 1
        self._handles[self._handle_count] = Handle(node=node, life=self._life)
        return self._handle_count

    def _handle(self, number: int) -> Handle:
        handle = self._handles[number]
        if handle.life != self._life and not _is_shared_memory(handle.node):
            raise pyfuse3.FUSEError(errno.EIO)
        return handle

    def _file(self, handle: int) -> File:
        node = self._handle(handle).node
        if not isinstance(node, File):
            raise pyfuse3.FUSEError(errno.EINVAL)
        return node

    # Names.

    async def lookup(self, parent_inode: int, name: bytes, ctx: Any = None) -> Any:
        self._must_be_up()
        folder = self._folder(parent_inode)
        if name == b".":
            return _attributes(folder)
        if name == b"..":
            return _attributes(folder.folder or folder)
        node = folder.live.get(name)
        if node is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return _attributes(node)

    async def getattr(self, inode: int, ctx: Any = None) -> Any:
        node = self._known_or_shared(inode)
        if not _is_shared_memory(node):
            self._must_be_up()
        return _attributes(node)

    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: Any) -> Any:
        folder = self._folder(parent_inode)
        async with self._operation(Operation.MAKE_FOLDER, folder, new=os.fsdecode(name)):
            self._must_have_room_for_a_node()
            node = Folder(number=self.worlds.number(), facts=_new_facts(mode | stat.S_IFDIR, ctx))
            self.worlds.add(folder, name, node)
        return _attributes(node)

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: Any
    ) -> tuple[Any, Any]:
        folder = self._folder(parent_inode)
        node = File(number=self.worlds.number(), facts=_new_facts(mode, ctx))
        if _is_shared_memory_name(name):
            self._must_be_up()
            self.worlds.add(folder, name, node)
        else:
            async with self._operation(Operation.CREATE, folder, new=os.fsdecode(name)):
                self._must_have_room_for_a_node()
                self.worlds.add(folder, name, node)
        return self._opened(node), _attributes(node)

    async def symlink(self, parent_inode: int, name: bytes, target: bytes, ctx: Any) -> Any:
        folder = self._folder(parent_inode)
        async with self._operation(Operation.CREATE, folder, new=os.fsdecode(name)):
            self._must_have_room_for_a_node()
            facts = _new_facts(stat.S_IFLNK | 0o777, ctx)
            node = Link(number=self.worlds.number(), target=target, facts=facts)
            self.worlds.add(folder, name, node)
        return _attributes(node)

    async def readlink(self, inode: int, ctx: Any) -> bytes:
        self._must_be_up()
        node = self._node(inode)
        if not isinstance(node, Link):
            raise pyfuse3.FUSEError(errno.EINVAL)
        return node.target

    async def link(self, inode: int, new_parent_inode: int, new_name: bytes, ctx: Any) -> Any:
        node, folder = self._node(inode), self._folder(new_parent_inode)
        async with self._operation(Operation.LINK, folder, new=os.fsdecode(new_name)):
            self.worlds.add(folder, new_name, node)
        return _attributes(node)

    async def unlink(self, parent_inode: int, name: bytes, ctx: Any) -> None:
        folder = self._folder(parent_inode)
        if _is_shared_memory_name(name):
            self._must_be_up()
            self.worlds.remove(folder, name)
            return
        async with self._operation(Operation.UNLINK, folder, new=os.fsdecode(name)):
            self.worlds.remove(folder, name)

    async def rmdir(self, parent_inode: int, name: bytes, ctx: Any) -> None:
        folder = self._folder(parent_inode)
        async with self._operation(Operation.REMOVE_FOLDER, folder, new=os.fsdecode(name)):
            self.worlds.remove(folder, name)

    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: Any,
    ) -> None:
        old, new = self._folder(parent_inode_old), self._folder(parent_inode_new)
        if flags & ~pyfuse3.RENAME_NOREPLACE:
            raise pyfuse3.FUSEError(errno.EINVAL)
        names = os.fsdecode(name_old) + "/" + os.fsdecode(name_new)
        async with self._operation(Operation.RENAME, old, new, new=names):
            self.worlds.rename((old, name_old), (new, name_new), replace=flags == 0)

    # Folders.

    async def opendir(self, inode: int, ctx: Any) -> int:
        folder = self._folder(inode)
        async with self._operation(Operation.LIST, folder):
            return self._open_handle(folder)

    async def readdir(self, fh: int, start_id: int, token: Any) -> None:
        self._must_be_up()
        handle = self._handle(fh)
        if start_id == 0:
            assert isinstance(handle.node, Folder)
            handle.listed = tuple(handle.node.live.items())
        for place, (name, node) in enumerate(handle.listed[start_id:], start=start_id + 1):
            if not pyfuse3.readdir_reply(token, name, _attributes(node), place):
                return

    async def fsyncdir(self, fh: int, datasync: bool) -> None:  # noqa: FBT001 - pyfuse3's signature
        await self._sync(Operation.SYNC_FOLDER, self._handle(fh).node, content_only=datasync)

    async def releasedir(self, fh: int) -> None:
        del self._handles[fh]

    # Files.

    async def open(self, inode: int, flags: int, ctx: Any) -> Any:
        node = self._node(inode)
        if not isinstance(node, File):
            raise pyfuse3.FUSEError(errno.EINVAL)
        async with self._operation(Operation.OPEN, node):
            pass
        if flags & os.O_TRUNC:
            async with self._operation(Operation.TRUNCATE, node):
                node.resize(0)
        return self._opened(node)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        file = self._file(fh)
        async with self._operation(Operation.READ, file, offset=off, size=size) as rule:
            content = file.live
            if rule is not None and rule.effect is Effect.SHORT and rule.value is not None:
                size = min(size, rule.value)
            if rule is not None and rule.effect is Effect.STALE_READ:
                content = file.durable[: len(file.live)]
                content.extend(bytes(len(file.live) - len(content)))
            return bytes(content[off : off + size])

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        file = self._file(fh)
        async with self._operation(Operation.WRITE, file, offset=off, size=len(buf)) as rule:
            if rule is not None and rule.effect is Effect.SHORT:
                buf = buf[: rule.value]
            buf = buf[: self._room_for(file, off, len(buf))]
            if rule is not None and rule.effect is Effect.LOST_WRITE:
                file.resize(max(len(file.live), off + len(buf)))
            else:
                file.write(off, buf)
            file.facts.mtime_ns = time.time_ns()
        return len(buf)

    async def setattr(self, inode: int, attr: Any, fields: Any, fh: int | None, ctx: Any) -> Any:
        node = self._known_or_shared(inode)
        if fields.update_size:
            if not isinstance(node, File):
                raise pyfuse3.FUSEError(errno.EISDIR)
            async with self._operation(Operation.TRUNCATE, node, size=attr.st_size):
                self._room_for(node, attr.st_size, 0)
                node.resize(attr.st_size)
        if fields.update_mode or fields.update_uid or fields.update_gid:
            async with self._operation(Operation.CHANGE_MODE, node):
                if fields.update_mode:
                    node.facts.mode = stat.S_IFMT(node.facts.mode) | stat.S_IMODE(attr.st_mode)
                if fields.update_uid:
                    node.facts.uid = attr.st_uid
                if fields.update_gid:
                    node.facts.gid = attr.st_gid
        if fields.update_mtime:
            node.facts.mtime_ns = attr.st_mtime_ns
        return _attributes(node)

    async def fsync(self, fh: int, datasync: bool) -> None:  # noqa: FBT001 - pyfuse3's signature
        await self._sync(Operation.SYNC_FILE, self._handle(fh).node, content_only=datasync)

    async def flush(self, fh: int) -> None:
        """Closing makes nothing durable."""

    async def release(self, fh: int) -> None:
        del self._handles[fh]

    async def statfs(self, ctx: Any) -> Any:
        self._must_be_up()
        disk, space = self.disk, pyfuse3.StatvfsData()
        total = _SHOWN_BYTES if disk.capacity_bytes is None else disk.capacity_bytes
        free = max(0, total - self.worlds.used_bytes())
        if disk.shown_free_bytes is not None:
            free = disk.shown_free_bytes
        nodes = _SHOWN_NODES if disk.capacity_nodes is None else disk.capacity_nodes
        space.f_bsize = space.f_frsize = _BLOCK_BYTES
        space.f_blocks = max(total, free) // _BLOCK_BYTES
        space.f_bfree = space.f_bavail = free // _BLOCK_BYTES
        space.f_files = nodes
        space.f_ffree = space.f_favail = max(0, nodes - self.worlds.used_nodes())
        space.f_namemax = 255
        return space

    # Parts of the above.

    def _opened(self, node: File) -> Any:
        shared = _is_shared_memory(node)
        return pyfuse3.FileInfo(fh=self._open_handle(node), direct_io=not shared, keep_cache=False)

    async def _sync(self, operation: Operation, node: Node, *, content_only: bool) -> None:
        async with self._operation(operation, node) as rule:
            if rule is not None and rule.effect is Effect.LOST_PAGES and isinstance(node, File):
                node.lose_pages()
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            ignored = rule is not None and rule.effect is Effect.IGNORED
            if not (ignored or _is_shared_memory(node)):
                self.worlds.sync(node, content_only=content_only)

    def _known_or_shared(self, number: int) -> Node:
        for handle in self._handles.values():
            if handle.node.number == number and _is_shared_memory(handle.node):
                return handle.node
        return self._node(number)

    def _room_for(self, file: File, offset: int, size: int) -> int:
        """Return how many of *size* bytes fit; all of them or ENOSPC if not even one."""
        end, capacity = offset + size, self.disk.capacity_bytes
        if capacity is None or end <= len(file.live) or _is_shared_memory(file):
            return size
        room_ends = len(file.live) + max(0, capacity - self.worlds.used_bytes())
        if room_ends < end and room_ends <= offset:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return min(end, room_ends) - offset

    def _must_have_room_for_a_node(self) -> None:
        capacity = self.disk.capacity_nodes
        if capacity is not None and self.worlds.used_nodes() >= capacity:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _is_shared_memory(node: Node) -> bool:
    return isinstance(node, File) and _is_shared_memory_name(node.name)


def _is_shared_memory_name(name: bytes) -> bool:
    return name.endswith(b"-shm")


def _new_facts(mode: int, ctx: Any) -> Facts:
    return Facts(mode=mode & ~ctx.umask, uid=ctx.uid, gid=ctx.gid, mtime_ns=time.time_ns())


def _attributes(node: Node) -> Any:
    entry, facts = pyfuse3.EntryAttributes(), node.facts
    size = len(node.live) if isinstance(node, File) else 0
    entry.st_ino, entry.generation = node.number, 0
    entry.entry_timeout = entry.attr_timeout = 0
    entry.st_mode, entry.st_uid, entry.st_gid = facts.mode, facts.uid, facts.gid
    entry.st_nlink = max(node.links, 1) if isinstance(node, Folder) else node.links
    entry.st_size, entry.st_blksize, entry.st_blocks = size, _BLOCK_BYTES, -(-size // 512)
    entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = facts.mtime_ns
    return entry
