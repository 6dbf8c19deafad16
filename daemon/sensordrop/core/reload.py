"""What another configuration changes while the daemon runs, and what it leaves as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LIVE_KEYS = frozenset({"bandwidth", "control_principals", "log_level"})
"""The daemon's keys that hold at once. All others are only read at its start: what they name is held
from then on.
"""

PLACE_KEYS = frozenset(
    {"client", "project", "cycle", "bucket_name", "s3_prefix", "endpoint_url", "shared"}
)
"""A delivery's keys that say whose it is and where its files go. With another value of one it is
another delivery in the ledger, and everything in its folder is judged anew."""

Settings = Mapping[str, object]
"""The values of one file's keys, all of them. They are only compared, so secrets may be among them."""


@dataclass(frozen=True, kw_only=True)
class Reload:
    """What is to be done to get from one configuration to another. All names are sorted."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Deliveries that are configured differently, with the keys that are."""
    daemon: tuple[str, ...] = ()
    """Keys of the daemon that hold from now on."""
    needs_restart: tuple[str, ...] = ()
    """Keys of the daemon that have another value, which holds from its next start on."""

    @property
    def nothing(self) -> bool:
        """Tell whether all stays as it is."""
        changes = (self.added, self.removed, self.changed, self.daemon, self.needs_restart)
        return not any(changes)

    @property
    def moved(self) -> tuple[str, ...]:
        """The deliveries whose files go elsewhere from now on."""
        return tuple(name for name, keys in self.changed.items() if PLACE_KEYS.intersection(keys))


def plan_reload(
    *,
    daemon: tuple[Settings, Settings],
    deliveries: tuple[Mapping[str, Settings], Mapping[str, Settings]],
) -> Reload:
    """Compare what is in force with what is to be, as pairs of the two. Pure."""
    before, after = deliveries
    keys = _differing(*daemon)
    both = sorted(before.keys() & after.keys())
    changed = {name: _differing(before[name], after[name]) for name in both}
    return Reload(
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        changed={name: found for name, found in changed.items() if found},
        daemon=tuple(key for key in keys if key in LIVE_KEYS),
        needs_restart=tuple(key for key in keys if key not in LIVE_KEYS),
    )


def reload_words(reload: Reload) -> str:
    """Say in a line what is changed, for people."""
    parts = [
        *_listed("added", reload.added),
        *_listed("removed", reload.removed),
        *_listed("changed", [f"{n} ({', '.join(keys)})" for n, keys in reload.changed.items()]),
        *_listed("daemon", reload.daemon),
        *_listed("needs a restart", reload.needs_restart),
    ]
    return "; ".join(parts) or "nothing is different"


def _listed(what: str, names: tuple[str, ...] | list[str]) -> list[str]:
    return [f"{what}: {', '.join(names)}"] if names else []


def _differing(before: Settings, after: Settings) -> tuple[str, ...]:
    keys = sorted(before.keys() | after.keys())
    return tuple(key for key in keys if before.get(key) != after.get(key))
