"""Work that may block on a folder, done beside the thread that must not wait.

A share that does not answer holds its caller for ever. So each delivery has at most one errand of
a kind under way, and a thread that is held up is written off: another one takes its place, and it
ends by itself when its folder answers again.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Ended(Generic[Result]):
    """An errand that came to its end: with a result, or with the error that it raised."""

    key: str
    result: Result | None = None
    error: BaseException | None = None

    def outcome(self) -> Result:
        """Give the result, or raise the error in the thread that asked for it."""
        if self.error is not None:
            raise self.error
        return cast(Result, self.result)


@dataclass(kw_only=True, eq=False)
class _Errand(Generic[Result]):
    key: str
    work: Callable[[], Result]
    asked_at: float
    begun_at: float | None = None
    written_off: bool = False


class Errands(Generic[Result]):
    """A few threads, begun when they are needed. Used by one thread, beside its own."""

    def __init__(
        self,
        *,
        name: str,
        most: int,
        wake: Callable[[], None],
        close_thread: Callable[[], None] = lambda: None,
    ) -> None:
        """`most`: errands at once, those that are written off not counted. `wake` is called when
        one has ended, `close_thread` in each thread before it ends.
        """
        self._name = name
        self._most = most
        self._wake = wake
        self._close_thread = close_thread
        self._lock = threading.Lock()
        self._under_way: dict[str, _Errand[Result]] = {}
        self._jobs: queue.SimpleQueue[_Errand[Result] | None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[Ended[Result]] = queue.SimpleQueue()
        self._threads: set[threading.Thread] = set()
        self._waiting = 0
        self._idle = 0
        self._written_off = 0
        self._begun = 0

    def start(self, key: str, work: Callable[[], Result]) -> bool:
        """Have something done; False: this key's last errand has not ended yet."""
        with self._lock:
            if key in self._under_way:
                return False
            errand = _Errand(key=key, work=work, asked_at=time.monotonic())
            self._under_way[key] = errand
            self._waiting += 1
            self._jobs.put(errand)
            self._engage()
        return True

    def under_way(self, key: str) -> bool:
        """Tell whether this key's last errand has not ended yet."""
        with self._lock:
            return key in self._under_way

    def held_up_seconds(self, key: str) -> float:
        """Tell for how long this key's errand has been at work; 0: it is not."""
        with self._lock:
            errand = self._under_way.get(key)
            if errand is None or errand.begun_at is None:
                return 0.0
            return time.monotonic() - errand.begun_at

    def write_off(self, key: str) -> None:
        """Let another thread take the place of the one that this errand holds. May be repeated."""
        with self._lock:
            errand = self._under_way.get(key)
            if errand is not None and errand.begun_at is not None and not errand.written_off:
                errand.written_off = True
                self._written_off += 1
                self._engage()

    def collect(self) -> Ended[Result] | None:
        """Give an errand that has ended, each once; None: there is no more for now."""
        try:
            return self._ended.get_nowait()
        except queue.Empty:
            return None

    def close(self, seconds: float) -> list[str]:
        """Let the threads end, and wait for those that are not held up, at most so long.

        Gives the keys of errands that were never begun. It may be used again afterwards.
        """
        with self._lock:
            threads = set(self._threads)
            for _ in threads:
                self._jobs.put(None)
        give_up = time.monotonic() + seconds
        for thread in threads:
            while thread.is_alive() and time.monotonic() < give_up and not self._all_written_off():
                thread.join(0.05)
        with self._lock:
            dropped = [e.key for e in self._under_way.values() if e.begun_at is None]
            for key in dropped:
                del self._under_way[key]
            # Whoever still comes back finds its end in the queue that it knows.
            self._jobs = queue.SimpleQueue()
            self._waiting = self._idle = 0
        return dropped

    def _all_written_off(self) -> bool:
        with self._lock:
            return len(self._threads) <= self._written_off

    def _engage(self) -> None:
        """Begin threads while more waits than is idle, and there may be more."""
        while self._waiting > self._idle and len(self._threads) - self._written_off < self._most:
            self._begun += 1
            thread = threading.Thread(
                target=self._run,
                args=(self._jobs,),
                name=f"{self._name}-{self._begun}",
                daemon=True,
            )
            self._threads.add(thread)
            self._idle += 1
            thread.start()

    def _run(self, jobs: queue.SimpleQueue[_Errand[Result] | None]) -> None:
        try:
            while (errand := jobs.get()) is not None and self._do(errand, jobs):
                pass
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())
            self._close_thread()

    def _do(self, errand: _Errand[Result], jobs: queue.SimpleQueue[_Errand[Result] | None]) -> bool:
        """Do one errand; tell whether this thread is still wanted."""
        with self._lock:
            if self._under_way.get(errand.key) is not errand:
                return True  # dropped when this was closed
            errand.begun_at = time.monotonic()
            self._waiting -= 1
            self._idle -= 1
        try:
            ended = Ended(key=errand.key, result=errand.work())
        except BaseException as error:  # noqa: BLE001 — whoever collects it raises it again
            ended = Ended(key=errand.key, error=error)
        with self._lock:
            del self._under_way[errand.key]
            wanted = not errand.written_off and jobs is self._jobs
            if errand.written_off:
                self._written_off -= 1
            if wanted:
                self._idle += 1
            self._ended.put(ended)
        self._wake()
        return wanted
