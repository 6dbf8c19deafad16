"""`sensordrop pipeline`: upload, retry, tell, one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sensordrop.cli.asking import ended
from sensordrop.cli.hand import (
    Chosen,
    Working,
    choose,
    delivery_flags,
    display_flags,
    exit_of,
    round_flags,
    same_place,
    try_again,
)
from sensordrop.cli.session import letter_words
from sensordrop.core.batch import Rounds, RunEnd
from sensordrop.core.letters import LetterKind, LetterState
from sensordrop.exits import Exit

if TYPE_CHECKING:
    from sensordrop.by_hand import HandResult


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The delivery's file (JSON or YAML), or a configuration folder. "
    "Default: $SENSORDROP_CONFIG, then /etc/sensordrop.",
)
@click.option("--database", metavar="URL", help="The ledger: a postgresql:// URL.")
@click.option("--delivery", metavar="NAME", help="Which delivery of a configuration folder.")
@delivery_flags
@round_flags
@display_flags
def command(
    config: Path | None,
    database: str | None,
    delivery: str | None,
    rounds: int,
    retry_wait: float,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    **flags: str | None,
) -> None:
    """Upload a folder, try what failed again in rounds, and see that the endpoint is told.

    Each step begins only when the one before ended well; where one does not, a line says which and
    why. Exit codes are those of `sensordrop upload`.

    \b
    Examples:
      sensordrop pipeline --config highlands.json
      sensordrop pipeline --config highlands.json --rounds 5 --retry-wait 300
    """
    given = {key: value for key, value in flags.items() if value is not None}
    chosen = choose(config, database, delivery, given)
    working = Working(quiet=quiet, verbose=verbose, as_json=as_json)
    limits = Rounds(most=rounds, wait_seconds=retry_wait)
    ended(_go(working, chosen, limits, same_place(config, database)))


def _go(working: Working, chosen: Chosen, rounds: Rounds, about: str) -> Exit:
    from sensordrop.by_hand import HandOptions

    display = working.display
    display.say("session", "Step 1 of 3: upload")
    result = working.run(chosen, HandOptions())
    step = "upload"
    if result.failed and result.ended.how is RunEnd.DONE:
        display.say("session", "Step 2 of 3: retry")
        step = "retry"
        result = try_again(working, chosen, result, rounds)
    elif result.well:
        display.say("session", "Step 2 of 3: retry: nothing failed")
    display.sum_up(result, about=about)
    if not result.well:
        display.say("stop", f"The pipeline stopped at step {step}: the endpoint was not told")
        return exit_of(result)
    display.say("session", "Step 3 of 3: trigger")
    if chosen.config.endpoint is None:
        display.say("skipped", "No endpoint is configured: there is nobody to tell")
        return Exit.DONE
    try:
        letters = _tell(working, chosen, result)
    except click.Abort:
        display.say("stop", "The pipeline was interrupted at step trigger")
        return Exit.INTERRUPTED
    for session_id, letter in letters.items():
        words = f"session {session_id}: {letter_words(letter)}"
        if letter["state"] != LetterState.TOLD:
            display.say("failed", words)
            display.say("stop", "The pipeline stopped at step trigger: the endpoint was not told")
            return Exit.FAILED
        display.say("ok", f"The endpoint was told of {words}")
    if not letters:
        display.say("skipped", "Nothing was new: there is nothing to tell")
    return Exit.DONE


def _tell(working: Working, chosen: Chosen, result: HandResult) -> dict[int, dict[str, Any]]:
    """See that the endpoint was told of this session, and of those before it that it did not hear;
    give what became of each. Ends at the first that was not heard.
    """
    from sensordrop.cli.trigger import see_told, unheard_sessions
    from sensordrop.composition.ledgers import open_ledger
    from sensordrop.control.told import letter_told

    endpoint = chosen.config.endpoint
    assert endpoint is not None
    told: dict[int, dict[str, Any]] = {}
    place = chosen.place
    with open_ledger(place.daemon, directory=place.directory, stop=working.stop) as ledger:
        known = result.delivery_id is not None
        unheard = unheard_sessions(ledger, result.delivery_id or 0) if known else []
        for session_id in unheard:
            line = see_told(ledger, session_id, endpoint, working.stop)
            told[session_id] = letter_told(line)
            if line.state is not LetterState.TOLD:
                return told
        if result.session_id is not None and result.session_id not in told:
            for line in ledger.letters_of(result.session_id):
                if line.kind is LetterKind.REGISTRATION:
                    told[result.session_id] = letter_told(line)
    return told
