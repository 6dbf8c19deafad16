"""How many connections to the control socket may be open, and whose give way."""

from __future__ import annotations

from sensordrop.core.principal import Rank

MOST_CONNECTIONS = 32
"""Open at once; more are turned away with `busy`, and the client tries again."""
MOST_OF_A_USER = 8
"""Of them of one user: more than any verb or page opens."""
KEPT_FOR_CONTROLLERS = 8
"""Of them that those who only look can't take: somebody has to be able to pause the uploads."""
KEPT_FOR_TRUSTED = 4
"""Of them that nobody but root and the daemon's own user can take: somebody has to mend things."""

MOST_AT_WORK = 4
"""Operations at work on the ledger at once: each takes one of its connections, as uploads do."""
MOST_AT_WORK_FOR_ANYBODY = 3
"""Of them for those who only look, for the same reason."""

_ROOM = {
    Rank.ANYBODY: MOST_CONNECTIONS - KEPT_FOR_TRUSTED - KEPT_FOR_CONTROLLERS,
    Rank.CONTROLLER: MOST_CONNECTIONS - KEPT_FOR_TRUSTED,
    Rank.TRUSTED: MOST_CONNECTIONS,
}


def is_admitted(rank: Rank, *, open_now: int, of_the_user: int) -> bool:
    """Tell whether one more connection may be opened, of a user who has so many open already."""
    return open_now < _ROOM[rank] and of_the_user < MOST_OF_A_USER
