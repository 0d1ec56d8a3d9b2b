"""Do many requests at once, in threads that a run does not wait for without end when it is interrupted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from itertools import chain
from typing import TypeVar

_PATIENCE = 5.0  # seconds for requests that are under way when a run ends early
_LARGE = 4  # one thread of so many begins with the large items

T = TypeVar("T")


class Stopped(Exception):
    """The run ends: what is under way is not wanted any more."""


def do_all(
    work: Callable[[T, Callable[[], None]], None], items: Iterable[T], jobs: int, *, large: Iterable[T] = ()
) -> None:
    """Call `work` for each item, in up to `jobs` threads. The first exception ends it, and is raised here.

    The second argument of `work` raises Stopped when the run ends early. `large` items are left to a quarter of the
    threads, which begin with them.
    """
    queue, large_queue = iter(items), iter(large)
    lock, stopped = threading.Lock(), threading.Event()
    errors: list[BaseException] = []

    def check() -> None:
        if stopped.is_set():
            raise Stopped

    def run(number: int) -> None:
        own = chain(large_queue, queue) if number % _LARGE == 0 else queue
        try:
            while not stopped.is_set():
                with lock:
                    item = next(own, None)
                if item is None:
                    return
                work(item, check)
        except Stopped:
            pass
        except BaseException as error:  # also what a panic of Rust becomes
            errors.append(error)
            stopped.set()

    # Daemons: a request that does not end must not keep an interrupted program; see `entry`.
    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(jobs)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.5)  # a signal ends this, on each version of Python
    except BaseException:
        stopped.set()
        _wait_for(threads)
        raise
    if errors:
        raise errors[0]


def interruptible(request: Callable[[], T]) -> T:
    """Do a request of the main thread in another one: a signal ends the wait, which the library would not end."""
    if threading.current_thread() is not threading.main_thread():
        return request()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(request())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.5)
    if errors:
        raise errors[0]
    return results[0]


def _wait_for(threads: Iterable[threading.Thread]) -> None:
    deadline = time.monotonic() + _PATIENCE
    for thread in threads:
        if thread.ident is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
