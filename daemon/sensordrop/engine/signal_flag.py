"""A stop flag for signal handlers.

A handler runs in the main thread between any two steps of it, also within `threading.Event.wait`
and another handler: an Event's `set` asks for a lock there that its own thread holds, for ever.
"""

from __future__ import annotations

import queue


class SignalFlag:
    """A `StopFlag`. `set` may be called in a signal handler at any instant, and from every thread."""

    def __init__(self) -> None:
        self._set = False
        # Its put may interrupt itself and a get. Once the flag is set there is always one in it.
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Set the flag; may be repeated. Never blocks."""
        if not self._set:
            self._set = True
            self._bell.put(None)

    def is_set(self) -> bool:
        """Tell whether it is set. Never blocks."""
        return self._set

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, at most so long; tell whether it is. Any number of threads may."""
        if self._set:
            return True
        try:
            self._bell.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return self._set
        self._bell.put(None)  # the others who wait hear it too
        return True
