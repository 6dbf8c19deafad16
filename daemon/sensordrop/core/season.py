"""A field season at a glance: what is stored, what is not safe yet, which sensor has which days."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import IntEnum, StrEnum
from statistics import median

LONGEST_DAYS = 366
"""Days that a coverage is drawn over at most. A recorder whose clock fell back to 1970, or runs
ahead by years, would draw all others out of sight; its days are counted beside the drawing."""
DAILY_COLUMNS = 190
"""Days up to which each has a column of its own; beyond, a column is a week, so that a season still
fits a screen."""
SPARSE = 0.25
"""Share of a usual day below which a day holds strikingly little: a battery that died at dawn."""
PARTLY = 0.75
"""Share of a usual day from which a day counts as a usual one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeasonScope:
    """What an overview is about. An empty tuple: all there are."""

    clients: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    cycles: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How one delivery stands. Files are versions, each counted once; times are aware."""

    client: str
    project: str
    cycle: str
    delivery: str
    station: str | None
    """None: a delivery that several stations share."""
    bucket: str
    state: str
    """As `sensordrop status` shows it, or `retired`: it goes elsewhere now, under the same name."""
    reason: str | None
    daemon_alive: bool
    stored_files: int
    """Uploaded, and skipped because the same content was there."""
    stored_bytes: int
    waiting_files: int
    """On the books and not stored, those that are being uploaded included."""
    waiting_bytes: int
    settling_files: int
    failed_files: int
    """Quarantined."""
    failed_bytes: int
    mismatched_objects: int
    """Stored objects that were found missing or different when they were last verified."""
    last_success_at: datetime | None
    last_complete_sweep_at: datetime | None
    last_sweep_problem: str | None
    """Why the last listing of the folder was not complete; None if it was."""
    files_per_second: float | None
    eta: datetime | None

    @property
    def known_files(self) -> int:
        """All files that are or ought to be stored."""
        return self.stored_files + self.waiting_files + self.settling_files + self.failed_files

    @property
    def share_stored(self) -> float:
        """Give the share of the known files that is stored, from 0 to 1; 1 where there are none."""
        return self.stored_files / self.known_files if self.known_files else 1.0


class Weight(IntEnum):
    """How much something that is open weighs, the heaviest first."""

    PERSON = 0
    """A person has to look at it: it will not mend itself."""
    BLIND = 1
    """Nobody can say what is in the folder."""
    WAITING = 2
    """It is on its way."""


class OpenKind(StrEnum):
    """What can be open in a delivery."""

    MISMATCHED = "mismatched"
    FAILED = "failed"
    UNSEEN = "unseen"
    STOPPED = "stopped"
    WAITING = "waiting"
    SETTLING = "settling"


@dataclass(frozen=True, kw_only=True, slots=True)
class Open:
    """One thing for which a delivery is not safe yet."""

    kind: OpenKind
    weight: Weight
    words: str


def open_things(standing: Standing) -> tuple[Open, ...]:
    """Say what keeps a delivery from being safe, the heaviest first; empty: nothing is known.

    That nothing is known to be open is no verdict on a card: that is `sensordrop receipt`'s.
    """
    found = []
    if standing.mismatched_objects:
        found.append(
            Open(
                kind=OpenKind.MISMATCHED,
                weight=Weight.PERSON,
                words=f"{_many(standing.mismatched_objects, 'stored object')} missing or different "
                "in the bucket",
            )
        )
    if standing.state == "retired":
        return tuple(found)
    if standing.failed_files:
        found.append(
            Open(
                kind=OpenKind.FAILED,
                weight=Weight.PERSON,
                words=f"{_many(standing.failed_files, 'file')} quarantined after failures",
            )
        )
    if standing.state != "disabled":
        found += _blind(standing)
    if standing.waiting_files:
        found.append(
            Open(
                kind=OpenKind.WAITING,
                weight=Weight.WAITING,
                words=f"{_many(standing.waiting_files, 'file')} not stored yet",
            )
        )
    if standing.settling_files:
        found.append(
            Open(
                kind=OpenKind.SETTLING,
                weight=Weight.WAITING,
                words=f"{_many(standing.settling_files, 'file')} still being written",
            )
        )
    return tuple(sorted(found, key=lambda each: each.weight))


def _blind(standing: Standing) -> list[Open]:
    """Say why new files of a delivery may go unseen, or stay where they are."""
    found = []
    if not standing.daemon_alive:
        words = "sensordropd is not running, so nobody looks into its folder"
        found.append(Open(kind=OpenKind.UNSEEN, weight=Weight.BLIND, words=words))
    elif standing.state in {"offline", "blocked", "paused"}:
        words = f"{standing.state}: {standing.reason}" if standing.reason else standing.state
        found.append(Open(kind=OpenKind.STOPPED, weight=Weight.BLIND, words=words))
    words = ""
    if standing.last_complete_sweep_at is None:
        words = "its folder was never listed completely"
    elif standing.last_sweep_problem is not None:
        words = "the last listing of its folder was not complete"
    if words and standing.last_sweep_problem:
        words += f": {standing.last_sweep_problem}"
    if words:
        found.append(Open(kind=OpenKind.UNSEEN, weight=Weight.BLIND, words=words))
    return found


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# --- coverage -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Amount:
    """Files, their bytes, and how many of them are quarantined."""

    files: int = 0
    bytes: int = 0
    failed: int = 0

    def __add__(self, other: Amount) -> Amount:
        """Give both together."""
        return Amount(
            files=self.files + other.files,
            bytes=self.bytes + other.bytes,
            failed=self.failed + other.failed,
        )


class Level(IntEnum):
    """What a sensor has in one column, beside what is usual in its cycle."""

    OUTSIDE = 0
    """Nothing, before the sensor's first day or after its last."""
    GAP = 1
    """Nothing, though the sensor has days before and after it."""
    SPARSE = 2
    PARTLY = 3
    USUAL = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One sensor in one column."""

    level: Level
    amount: Amount


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One sensor's days. `strays` are files whose day is outside of the drawing."""

    sensor: str
    cells: Sequence[Cell]
    total: Amount
    gap_days: int
    first: date | None
    last: date | None
    strays: int
    stray_days: Sequence[date] = ()
    """The first and the last of the days outside."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """The days of a cycle's sensors, as columns of `column_days` days from `first` on."""

    first: date
    column_days: int
    columns: int
    usual_files: float
    """Files that a sensor has on a day of the middling sort."""
    rows: Sequence[Row] = field(default_factory=tuple)

    def column(self, index: int) -> date:
        """Give the first day of a column."""
        return self.first + timedelta(days=index * self.column_days)

    @property
    def last(self) -> date:
        """The last day that is drawn."""
        return self.column(self.columns) - timedelta(days=1)


SensorDays = Mapping[str, Mapping[date, Amount]]
"""For each sensor, what it has on each day that it has anything on."""


def coverage(sensors: SensorDays) -> Coverage | None:
    """Lay a cycle's sensors out by days; None where no sensor has any file."""
    per_day: dict[date, int] = {}
    for days in sensors.values():
        for day, amount in days.items():
            per_day[day] = per_day.get(day, 0) + amount.files
    if not per_day:
        return None
    first, last = busiest_span(per_day, LONGEST_DAYS)
    length = (last - first).days + 1
    column_days = 1 if length <= DAILY_COLUMNS else 7
    if column_days == 7:
        first -= timedelta(days=first.weekday())
        length = (last - first).days + 1
    laid = Coverage(
        first=first,
        column_days=column_days,
        columns=-(-length // column_days),
        usual_files=_usual(sensors.values(), first, last),
    )
    rows = [_row(sensor, days, laid, last) for sensor, days in sorted(sensors.items())]
    return Coverage(
        first=laid.first,
        column_days=laid.column_days,
        columns=laid.columns,
        usual_files=laid.usual_files,
        rows=tuple(rows),
    )


def busiest_span(files: Mapping[date, int], longest_days: int) -> tuple[date, date]:
    """Give first and last day of the span of at most so many days that holds the most files.

    Of equally busy ones, the latest. `files` must not be empty.
    """
    days = sorted(files)
    best, best_files, inside, begin = (days[0], days[0]), -1, 0, 0
    for day in days:
        inside += files[day]
        while (day - days[begin]).days >= longest_days:
            inside -= files[days[begin]]
            begin += 1
        if inside >= best_files:
            best, best_files = (days[begin], day), inside
    return best


def _usual(sensors: Iterable[Mapping[date, Amount]], first: date, last: date) -> float:
    """Give the middling number of files of all days of all sensors that have any."""
    return median(
        amount.files
        for days in sensors
        for day, amount in days.items()
        if first <= day <= last and amount.files
    )


def _row(sensor: str, days: Mapping[date, Amount], laid: Coverage, last: date) -> Row:
    drawn = {day: amount for day, amount in days.items() if laid.first <= day <= last}
    outside = sorted(day for day in days if day not in drawn)
    begin, end = (min(drawn), max(drawn)) if drawn else (None, None)
    amounts = [Amount()] * laid.columns
    for day, amount in drawn.items():
        at = (day - laid.first).days // laid.column_days
        amounts[at] += amount
    cells = [
        Cell(level=_level(amount, laid, _days_within(laid, at, begin, end)), amount=amount)
        for at, amount in enumerate(amounts)
    ]
    gap_days = (end - begin).days + 1 - len(drawn) if begin and end else 0
    return Row(
        sensor=sensor,
        cells=tuple(cells),
        total=sum(days.values(), Amount()),
        gap_days=gap_days,
        first=begin,
        last=end,
        strays=sum(days[day].files for day in outside),
        stray_days=(outside[0], outside[-1]) if outside else (),
    )


def _days_within(laid: Coverage, at: int, begin: date | None, end: date | None) -> int:
    """Count the days of a column between a sensor's first and its last."""
    if begin is None or end is None:
        return 0
    opens = laid.column(at)
    closes = laid.column(at + 1) - timedelta(days=1)
    return max(0, (min(end, closes) - max(begin, opens)).days + 1)


def _level(amount: Amount, laid: Coverage, days_within: int) -> Level:
    if not amount.files:
        return Level.GAP if days_within else Level.OUTSIDE
    share = amount.files / (laid.usual_files * days_within)
    if share < SPARSE:
        return Level.SPARSE
    return Level.PARTLY if share < PARTLY else Level.USUAL


# --- all together -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class CycleStore:
    """What a cycle holds, by kind of file."""

    client: str
    project: str
    cycle: str
    by_type: Mapping[str, Amount]


@dataclass(frozen=True, kw_only=True, slots=True)
class CycleSensors:
    """The sensors of one cycle with their days; `left_out` says that they were not read."""

    client: str
    project: str
    cycle: str
    sensors: SensorDays
    left_out: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class SeasonFailure:
    """One file that is quarantined."""

    client: str
    project: str
    delivery: str
    sensor: str
    path: str
    error_class: str
    error: str
    attempts: int
    failed_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Season:
    """All that an overview is made of, as one moment of the ledger."""

    at: datetime
    standings: Sequence[Standing]
    stores: Sequence[CycleStore]
    cycles: Sequence[CycleSensors]
    failures: Sequence[SeasonFailure]
    """The newest; how many there are in all, the standings say."""
