"""The live world and the durable one: what is in memory, and what a power cut leaves."""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final

PAGE_BYTES: Final = 4096
ROOT_NUMBER: Final = 1  # FUSE_ROOT_ID


@dataclass(slots=True, kw_only=True)
class Facts:
    """What is not content: mode with its type, owner, time of the last change."""

    mode: int
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0

    def copy(self) -> "Facts":
        return Facts(mode=self.mode, uid=self.uid, gid=self.gid, mtime_ns=self.mtime_ns)


@dataclass(slots=True, eq=False, kw_only=True)
class Node:
    """What a name may stand for. Its last folder and name are kept to say where it was."""

    number: int
    facts: Facts
    synced_facts: Facts = field(init=False)
    folder: "Folder | None" = None
    name: bytes = b""
    links: int = 0

    def __post_init__(self) -> None:
        self.synced_facts = self.facts.copy()

    @property
    def path(self) -> str:
        """Where it is, or was, below the root."""
        if self.folder is None:
            return ""
        above = self.folder.path
        return f"{above}/{os.fsdecode(self.name)}" if above else os.fsdecode(self.name)


@dataclass(slots=True, eq=False, kw_only=True)
class File(Node):
    """Content twice, and the pages in which they may differ."""

    live: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    dirty: set[int] = field(default_factory=set)

    def write(self, offset: int, data: bytes) -> None:
        if not data:
            return
        end = offset + len(data)
        if offset > len(self.live):
            self.resize(offset)
        self.live[offset:end] = data
        self.dirty.update(range(offset // PAGE_BYTES, -(-end // PAGE_BYTES)))

    def resize(self, size: int) -> None:
        shorter, longer = sorted((size, len(self.live)))
        self.dirty.update(range(shorter // PAGE_BYTES, -(-longer // PAGE_BYTES)))
        if size < len(self.live):
            del self.live[size:]
        else:
            self.live.extend(bytes(size - len(self.live)))

    def sync(self) -> None:
        _fit(self.durable, len(self.live))
        for page in self.dirty:
            self._keep(page)
        self.dirty.clear()

    def lose_pages(self) -> None:
        """Call everything clean, and keep nothing of it."""
        self.dirty.clear()

    def tear(self, chance: Random) -> None:
        """Keep some of what was not synced."""
        size = len(self.live) if chance.getrandbits(1) else len(self.durable)
        kept = [page for page in sorted(self.dirty) if chance.getrandbits(1)]
        _fit(self.durable, size)
        for page in kept:
            self._keep(page)

    def _keep(self, page: int) -> None:
        start, end = page * PAGE_BYTES, min((page + 1) * PAGE_BYTES, len(self.durable))
        part = self.live[start:end]
        self.durable[start : start + len(part)] = part


@dataclass(slots=True, eq=False, kw_only=True)
class Folder(Node):
    """Names twice."""

    live: dict[bytes, Node] = field(default_factory=dict)
    durable: dict[bytes, Node] = field(default_factory=dict)


@dataclass(slots=True, eq=False, kw_only=True)
class Link(Node):
    """A symbolic link; its target never changes."""

    target: bytes


@dataclass(frozen=True, slots=True)
class Change:
    """One name in one folder: what it stands for from now on; None: nothing."""

    folder: Folder
    name: bytes
    node: Node | None


class Worlds:
    """Both trees. Errors of a file system are raised as OSError with their errno."""

    def __init__(self, *, numbers_from: int = ROOT_NUMBER) -> None:
        """Begin empty; no node but the root gets a number up to *numbers_from*."""
        self._numbers = numbers_from
        facts = Facts(mode=stat.S_IFDIR | 0o755)
        self.root = Folder(number=ROOT_NUMBER, facts=facts, links=1)
        self.nodes: dict[int, Node] = {ROOT_NUMBER: self.root}
        # The operations on names of which something is not durable yet, oldest first.
        self._pending: list[list[Change]] = []

    def number(self) -> int:
        """Return a number that no node has had."""
        self._numbers += 1
        return self._numbers

    def find(self, folder: Folder, name: bytes) -> Node:
        try:
            return folder.live[name]
        except KeyError:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT)) from None

    def add(self, folder: Folder, name: bytes, node: Node) -> None:
        """Give *node* a name; a new one or one more."""
        if name in folder.live:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        self.nodes[node.number] = node
        self._change(Change(folder, name, node))

    def remove(self, folder: Folder, name: bytes) -> None:
        """Take a name away; of a folder, only if it is empty."""
        self._must_be_empty(self.find(folder, name))
        self._change(Change(folder, name, None))

    def rename(
        self, old: tuple[Folder, bytes], new: tuple[Folder, bytes], *, replace: bool
    ) -> None:
        node, there = self.find(*old), new[0].live.get(new[1])
        if there is not None and not replace:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        if there is node:
            return
        if there is not None:
            self._must_be_empty(there)
        self._change(Change(*old, None), Change(*new, node))

    def sync(self, node: Node, *, content_only: bool = False) -> None:
        """Make a file's content or a folder's names durable, and its facts."""
        if isinstance(node, File):
            node.sync()
        elif isinstance(node, Folder):
            self._sync_names(node)
        if not content_only:
            node.synced_facts = node.facts.copy()

    def used_bytes(self) -> int:
        return sum(len(node.live) for node in self._linked() if isinstance(node, File))

    def used_nodes(self) -> int:
        return sum(1 for _ in self._linked())

    def crash(self, chance: Random | None = None) -> None:
        """Keep only what is durable, in new nodes; with *chance*, some of the rest."""
        if chance is not None:
            self._tear(chance)
        self._pending.clear()
        self.nodes.clear()
        self.root = Folder(
            number=ROOT_NUMBER,
            facts=self.root.synced_facts,
            durable=self.root.durable,
            links=1,
        )
        self.nodes[ROOT_NUMBER] = self.root
        self._come_back(self.root, {})

    def _linked(self) -> Iterator[Node]:
        return (node for node in self.nodes.values() if node.links)

    def _change(self, *changes: Change) -> None:
        for change in changes:
            self._set(change.folder.live, change)
        self._pending.append(list(changes))

    def _set(self, names: dict[bytes, Node], change: Change) -> None:
        gone = names.pop(change.name, None)
        if gone is not None:
            gone.links -= 1
        if change.node is not None:
            names[change.name] = change.node
            change.node.links += 1
            change.node.folder, change.node.name = change.folder, change.name

    def _sync_names(self, folder: Folder) -> None:
        moved_here = [
            node
            for name, node in folder.live.items()
            if isinstance(node, Folder) and folder.durable.get(name) is not node
        ]
        folder.durable = dict(folder.live)
        for changes in self._pending:
            for change in list(changes):
                moved_away = change.node is None and change.folder is not folder
                was = change.folder.durable.get(change.name)
                if moved_away and any(was is node for node in moved_here):
                    del change.folder.durable[change.name]
                    changes.remove(change)
                elif change.folder is folder:
                    changes.remove(change)
        self._pending = [changes for changes in self._pending if changes]

    def _tear(self, chance: Random) -> None:
        for changes in self._pending:
            if chance.getrandbits(1):
                for change in changes:
                    change.folder.durable.pop(change.name, None)
                    if change.node is not None:
                        change.folder.durable[change.name] = change.node
        for node in sorted(self.nodes.values(), key=lambda node: node.number):
            if isinstance(node, File):
                node.tear(chance)

    def _come_back(self, folder: Folder, reborn: dict[Node, Node]) -> None:
        for name, old in sorted(folder.durable.items()):
            if isinstance(old, Folder) and old in reborn:
                continue  # torn: it was kept in two places, and a folder has one
            again = old in reborn
            node = reborn.setdefault(old, reborn[old] if again else self._reborn(old))
            self.nodes[node.number] = node
            self._set(folder.live, Change(folder, name, node))
            if isinstance(node, Folder) and not again:
                self._come_back(node, reborn)
        folder.durable = dict(folder.live)

    def _reborn(self, old: Node) -> Node:
        number, facts = self.number(), old.synced_facts
        if isinstance(old, File):
            return File(
                number=number,
                facts=facts,
                live=bytearray(old.durable),
                durable=old.durable,
            )
        if isinstance(old, Folder):
            return Folder(number=number, facts=facts, durable=old.durable)
        assert isinstance(old, Link)
        return Link(number=number, facts=facts, target=old.target)

    @staticmethod
    def _must_be_empty(node: Node) -> None:
        if isinstance(node, Folder) and node.live:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))


def _fit(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))
