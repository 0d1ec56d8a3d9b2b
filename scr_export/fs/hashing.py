"""Hash files in threads and report those that do not hold the bytes of their digest."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection
from contextlib import closing
from itertools import chain

from scr_export.fs.file import SourceFile
from scr_export.fs.safe import chunks, open_directory, open_file

# Small files are read by so many threads only: they hold the interpreter's lock most of the time, and more are slower.
_SMALL, _THREADS_FOR_SMALL = 64 * 1024, 2
_WAKE = 0.2  # seconds


def ignore(length: int) -> None:
    """Take no notice of how far a step is."""


class _Hasher:
    """Hashes files below a root. The directory of the last one stays open."""

    def __init__(self, root: int, advance: Callable[[int], None]) -> None:
        self._root = root
        self._advance = advance
        self._directory: tuple[str, int] | None = None

    def close(self) -> None:
        if self._directory:
            os.close(self._directory[1])
            self._directory = None

    def damage(self, file: SourceFile) -> str | None:
        """Read a file; return what is wrong with it, or None."""
        try:
            descriptor = self._open(file)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        try:
            if not file.is_unchanged(os.fstat(descriptor)):
                return "changed while it was read"
            hasher = file.digest.hasher()
            for piece in chunks(descriptor):
                hasher.update(piece)
                self._advance(len(piece))
            if not file.is_unchanged(os.fstat(descriptor)):
                return "changed while it was read"
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        finally:
            os.close(descriptor)
        if file.digest.is_of(hasher):
            return None
        return f"is damaged: its bytes have the digest {file.digest.algorithm}:{hasher.hexdigest()}"

    def _open(self, file: SourceFile) -> int:
        if not self._directory or self._directory[0] != file.directory:
            self.close()
            self._directory = file.directory, open_directory(file.directory, self._root)
        return open_file(file.name, self._directory[1])


def find_damaged(
    files: Collection[SourceFile],
    root: int,
    jobs: int,
    *,
    advance: Callable[[int], None] = ignore,
    sound: Callable[[SourceFile], None] = lambda _: None,
) -> list[tuple[SourceFile, str]]:
    """Hash files below the open directory `root`, the largest first, in up to `jobs` threads.

    Return the damaged ones, each with what is wrong. `advance` is called with the length of each piece that was read,
    `sound` with each file that holds the bytes of its digest; both are called by one thread at a time.
    """
    # its import takes 10 ms, and few runs hash anything
    from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

    large = iter(sorted((f for f in files if f.size >= _SMALL), key=lambda file: -file.size))
    small = iter(sorted((f for f in files if f.size < _SMALL), key=lambda file: file.path))  # directory by directory
    lock, stopped = threading.Lock(), threading.Event()
    damaged: list[tuple[SourceFile, str]] = []

    def advance_unless_stopped(length: int) -> None:
        if stopped.is_set():
            raise InterruptedError
        with lock:
            advance(length)

    def work(number: int) -> None:
        queue = chain(large, small) if number < _THREADS_FOR_SMALL else large
        with closing(_Hasher(root, advance_unless_stopped)) as hasher:
            while not stopped.is_set():
                with lock:
                    file = next(queue, None)
                if file is None:
                    return
                what = hasher.damage(file)
                with lock:
                    damaged.append((file, what)) if what else sound(file)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            rest: set[Future[None]] = {pool.submit(work, number) for number in range(jobs)}
            while rest:
                # A signal that comes just before a wait without end would not be seen until that ends.
                done, rest = wait(rest, timeout=_WAKE, return_when=FIRST_EXCEPTION)
                for each in done:
                    each.result()
        except BaseException:
            stopped.set()
            raise
    return sorted(damaged)
