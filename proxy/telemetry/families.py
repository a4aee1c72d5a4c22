"""Counters and histograms for the hot path: plain attributes, turned into Prometheus samples when scraped.

prometheus_client's own children take a lock for every update; these are updated from the event loop alone, and a
scrape reads them there too, so they need none. Whoever updates keeps the cell it was given.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

OTHER: Final = "other"
SERIES_MAX: Final = 10_000
"""Label sets kept by one family; what comes beyond is counted under `other` in every label."""


class Cell:
    """One series of a counter or gauge. Exact as long as it is given integers."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Distribution:
    """One series of a histogram."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value under the smallest bound that is not below it."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Family[T](Collector):
    """All series of one metric by their label values."""

    def __init__(self, name: str, help_text: str, labels: tuple[str, ...]) -> None:
        self.name = name
        self.help_text = help_text
        self.labels = labels
        self._series: dict[tuple[str, ...], T] = {}

    def series(self, *values: str) -> T:
        """The series with these label values; the one of `other` when there are `SERIES_MAX` already."""
        found = self._series.get(values)
        if found is None:
            if len(self._series) >= SERIES_MAX:
                values = (OTHER,) * len(self.labels)
            found = self._series.setdefault(values, self._new())
        return found

    @abstractmethod
    def _new(self) -> T: ...


class Counters(Family[Cell]):
    """A counter metric. `scale` divides what is exported: integers are counted, floats only shown."""

    def __init__(self, name: str, help_text: str, labels: tuple[str, ...], *, scale: int = 1) -> None:
        super().__init__(name, help_text, labels)
        self.scale = scale

    def _new(self) -> Cell:
        return Cell()

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self.name, self.help_text, labels=self.labels)
        for values, cell in self._series.items():
            family.add_metric(values, cell.value / self.scale)
        yield family


class Gauges(Counters):
    """A gauge metric."""

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(self.name, self.help_text, labels=self.labels)
        for values, cell in self._series.items():
            family.add_metric(values, cell.value / self.scale)
        yield family


class Histograms(Family[Distribution]):
    """A histogram metric with ascending upper bounds."""

    def __init__(self, name: str, help_text: str, labels: tuple[str, ...], bounds: Sequence[float]) -> None:
        super().__init__(name, help_text, labels)
        self.bounds = bounds
        self._names = [*(str(float(bound)) for bound in bounds), "+Inf"]

    def _new(self) -> Distribution:
        return Distribution(self.bounds)

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self.name, self.help_text, labels=self.labels)
        for values, series in self._series.items():
            cumulated, buckets = 0, []
            for name, count in zip(self._names, series.counts, strict=True):
                cumulated += count
                buckets.append((name, float(cumulated)))
            family.add_metric(values, buckets, series.total)
        yield family
