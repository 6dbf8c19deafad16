"""Writes the metrics out in Prometheus' text format.

By us, because with a thousand deliveries there are sixty thousand lines, and prometheus-client's
general way takes a fifth of a second for them. All values are read for every scrape; the lines of
a delivery are only written anew where one of their values is another than the last time: most
deliveries lie still most of the time. What prometheus-client knows of the process comes from it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from sensordrop.adapters.s3.requests import RequestTally
from sensordrop.adapters.telemetry import (
    INFINITE,
    METRICS,
    PREFIX,
    DeliveryMetric,
    HistogramMetric,
    Labels,
    Metric,
    Sample,
    Station,
    StationMetric,
)
from sensordrop.core.tally import Distribution
from sensordrop.core.vitals import DeliveryVitals
from sensordrop.ports.watched import Telemetry

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


class Exposition:
    """Writes all metrics out. Safe from every thread; two scrapes at once wait for each other,
    and nobody else waits for either.
    """

    def __init__(self, telemetry: Telemetry, requests: RequestTally) -> None:
        self._telemetry = telemetry
        self._requests = requests
        self._lock = threading.Lock()
        self._names: list[str] | None = None
        """Of the deliveries that the columns are of."""
        self._columns: dict[str, _Column] = {}
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)

    def text(self) -> bytes:
        """Write out how the daemon is right now."""
        station = Station(vitals=self._telemetry.vitals(), requests=self._requests)
        with self._lock:
            written = self._written(station)
        return b"".join((*written, generate_latest(self._process)))

    def _written(self, station: Station) -> list[bytes]:
        deliveries = station.vitals.deliveries
        names = [delivery.name for delivery in deliveries]
        if names != self._names:
            self._names = names
            self._columns = {
                metric.name: _Column(metric, names)
                for metric in METRICS
                if isinstance(metric, DeliveryMetric)
            }
        return [
            self._columns[metric.name].text(deliveries)
            if isinstance(metric, DeliveryMetric)
            else _of_station(metric, station)
            for metric in METRICS
        ]


class _Column:
    """One metric of all deliveries, with what was written of it the last time."""

    def __init__(self, metric: DeliveryMetric, deliveries: Sequence[str]) -> None:
        self._read = metric.read
        self._labels = metric.labels[1:]
        self._head = _head(metric)
        name = PREFIX + metric.name
        self._begins = [
            f'{name}{{delivery="{delivery.translate(_ESCAPED)}"' for delivery in deliveries
        ]
        self._ends: dict[Labels, str] = {}
        """The other labels as they are written, by their values: few, and on many lines."""
        self._samples: list[tuple[Sample, ...]] = [()] * len(deliveries)
        self._lines = [""] * len(deliveries)
        self._text = self._head.encode("utf-8", "replace")

    def text(self, deliveries: Sequence[DeliveryVitals]) -> bytes:
        """Write it out for the same deliveries in the same order."""
        read = self._read
        samples = [tuple(read(delivery)) for delivery in deliveries]
        before = self._samples
        if samples != before:
            lines = self._lines
            for place, found in enumerate(samples):
                if found != before[place]:
                    lines[place] = self._written(self._begins[place], found)
            self._samples = samples
            self._text = (self._head + "".join(lines)).encode("utf-8", "replace")
        return self._text

    def _written(self, begin: str, samples: Sequence[Sample]) -> str:
        ends = self._ends
        return "".join(
            [
                f"{begin}{ends.get(values) or self._end(values)} {_number(value)}\n"
                for values, value in samples
            ]
        )

    def _end(self, values: Labels) -> str:
        written = _labels(self._labels, values)
        end = self._ends[values] = f",{written}}}" if written else "}"
        return end


def _of_station(metric: StationMetric | HistogramMetric, station: Station) -> bytes:
    lines = [_head(metric)]
    if isinstance(metric, StationMetric):
        for values, value in metric.read(station):
            written = _labels(metric.labels, values)
            labels = f"{{{written}}}" if written else ""
            lines.append(f"{PREFIX}{metric.name}{labels} {_number(value)}\n")
    else:
        for values, distribution in metric.read(station):
            labels = _labels(metric.labels, values)
            lines += _histogram(PREFIX + metric.name, labels, distribution)
    return "".join(lines).encode("utf-8", "replace")


def _head(metric: Metric) -> str:
    name = PREFIX + metric.name
    return f"# HELP {name} {metric.meaning}\n# TYPE {name} {metric.kind}\n"


def _histogram(name: str, labels: str, distribution: Distribution) -> Iterator[str]:
    before = f"{labels}," if labels else ""
    after = f"{{{labels}}}" if labels else ""
    below = 0
    for bound, count in zip((*distribution.bounds, INFINITE), distribution.counts, strict=True):
        below += count
        yield f'{name}_bucket{{{before}le="{_number(bound)}"}} {below}\n'
    yield f"{name}_count{after} {below}\n"
    yield f"{name}_sum{after} {_number(distribution.sum)}\n"


def _labels(names: Labels, values: Labels) -> str:
    return ",".join(
        f'{name}="{value.translate(_ESCAPED)}"' for name, value in zip(names, values, strict=True)
    )


def _number(value: float) -> str:
    return "+Inf" if value == INFINITE else repr(value)
