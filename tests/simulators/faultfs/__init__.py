"""A file system that loses what a power cut loses, for tests. The model, sentence by sentence.

Two worlds are kept. The *live* world is what programs see. The *durable* world is what a power cut
leaves. `tests/faults/test_faultfs_model.py` has a test for each of these sentences:

1.  A write or a truncation reaches the durable world when that file is synced (fsync, fdatasync).
    Its mode, owner and times do with fsync alone.
2.  A new name, a rename, a removal, a new or removed folder reaches it when the *folder* is synced.
    Syncing a file does not make its name durable; syncing a folder not the content of its files,
    nor the names in folders below, nor its own name in the folder above.
3.  A rename between two folders reaches it half by half: the new name with the sync of the one, the
    loss of the old name with the sync of the other. Only the new one synced leaves a file with both
    names; only the old one synced leaves it with none. A moved folder never has two names: the sync
    of its new name takes the old one away.
4.  At a crash the durable world becomes the live one. A name whose file was never synced is there,
    and its file is empty. What cannot be reached from the root is gone.
5.  From the crash to the restart everything fails with EIO. After the restart every descriptor from
    before is dead: EIO. There are new inodes everywhere.
6.  A *torn* crash lets chance, by its seed, keep some of what was not synced, as kernels do that
    write back by themselves: each page of 4 KiB, the size of a file, and each operation on names
    for itself, in any order. A rename that was not synced at all is kept or lost as a whole.
7.  A failed fsync ("lost pages") answers EIO once. The live world, like a page cache, still shows
    what was written and calls it clean: the next fsync succeeds, and has made nothing durable but
    the size (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC '20).
8.  What was written can be read at once by everyone, synced or not.

Stricter than ext4: there the fsync of a new file also makes its name durable, a commit of the
journal (each 5 s, or for another file's fsync) makes all names so far durable in their order, and
both halves of a rename survive together. Laxer than ext4 or a disk: a sector is never half written,
one write is never partly durable but in a torn crash, a synced byte never rots (`Effect.STALE_READ`
and `Effect.LOST_WRITE` lie on demand), and there is no time: nothing is written back because it got
old.

Nothing may hide in the kernel. Every file is opened with FOPEN_DIRECT_IO, so each read and each
write of a program is one request here, with the count that the program gets; a request is at most
128 KiB or so, a longer write comes as several, and may be cut between them. Names and attributes
are not cached (timeout 0). The writeback cache is off. The one exception is SQLite's ``*-shm``: it
is memory that processes share by mmap, which direct I/O cannot do here; it goes through the page
cache, is never durable, and no fault, count or crash concerns it (an unreadable page would be a
SIGBUS). Space cannot be reserved (fallocate: EOPNOTSUPP).

`worlds` is the model; `rules` says what goes wrong when; `requests` does what the kernel asks for;
`server` is the process that mounts, under Debian's python3 with python3-pyfuse3; `mount` is what a
test holds in its hand.
"""
