"""What the service manager lets the daemon read and write: cards are read-only unless somebody says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HOMES = ("/home", "/root", "/run/user")
"""What ProtectHome= is about (systemd.exec)."""
SYSTEM = ("/usr", "/boot", "/efi")
"""What ProtectSystem=yes makes read-only; `full` adds /etc, `strict` everything (systemd.exec)."""
ALWAYS_WRITABLE = ("/dev", "/proc", "/sys")
"""What ProtectSystem=strict leaves as it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sandbox:
    """A unit's view of the file system, in the words of systemd.exec."""

    user: str = ""
    """Whom it runs as; '' for root."""
    protect_system: str = "no"
    protect_home: str = "no"
    writable: Sequence[str] = ()
    """ReadWritePaths=, and the unit's own directories."""
    read_only: Sequence[str] = ()
    """ReadOnlyPaths= and InaccessiblePaths=."""
    groups: Sequence[str] = ()
    """SupplementaryGroups=: those beside the user's own."""
    reads_everything: bool = False
    """It is handed a capability by which rights of files don't hold it back from reading."""

    def may_write(self, path: str) -> bool:
        """Tell whether the unit leaves a folder writable: the nearest folder above decides."""
        closed = [*self.read_only]
        if self.protect_system == "strict":
            closed.append("/")
        elif self.protect_system in {"yes", "full"}:
            closed += [*SYSTEM, *(("/etc",) if self.protect_system == "full" else ())]
        if self.protect_home != "no":
            closed += HOMES
        shut = max((_depth(each) for each in closed if _holds(each, path)), default=-1)
        open_ = max(
            (_depth(each) for each in (*self.writable, *ALWAYS_WRITABLE) if _holds(each, path)),
            default=-1,
        )
        return shut < 0 or open_ >= shut


def drop_in(paths: Sequence[str]) -> str:
    """Give the lines of a drop-in that lets the unit write these folders."""
    return f"[Service] ReadWritePaths={' '.join(_quoted(path) for path in paths)}"


def _quoted(path: str) -> str:
    escaped = path.replace("%", "%%")
    if not set(escaped) & set(" \"'\\"):
        return escaped
    inner = escaped.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{inner}"'


def _holds(folder: str, path: str) -> bool:
    return _parts(path)[: _depth(folder)] == _parts(folder)


def _depth(folder: str) -> int:
    return len(_parts(folder))


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]
