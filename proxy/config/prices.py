"""Prices of policies/models.yaml -> rates: written out there, or looked up among the published ones."""

from __future__ import annotations

from dataclasses import replace

from proxy.config.model_entries import PriceEntry, RatesEntry
from proxy.config.problems import Marks, Path, Problem, near
from proxy.pricing.published import PREFIX, NotPublished, published
from proxy.pricing.rates import KINDS, Band, Rates


class Prices:
    """Reads the prices of one file, as they are at `at_ms`, and gathers what is wrong with them."""

    def __init__(self, marks: Marks, problems: list[Problem], at_ms: int) -> None:
        self._marks = marks
        self._problems = problems
        self._at_ms = at_ms
        self._source = marks.file.rpartition("/")[2]

    def rates(self, price: PriceEntry | str | None, place: Path, *, generates: bool) -> Rates | None:
        """The rates; None where there is no price, or a published one was not found.

        `generates`: a price for output is needed.
        """
        if price is None:
            return None
        if isinstance(price, str):
            return self._published(price, place, generates=generates)
        self._check(price, place, generates=generates)
        last = 0
        for number, band in enumerate(price.bands):
            self._check(band, (*place, "bands", number), generates=generates)
            if band.above <= last:
                self._wrong((*place, "bands", number, "above"), f"bands rise: this is not more than {last}")
            last = band.above
        bands = tuple(Band(band.above, _rates(band)) for band in price.bands)
        return replace(_rates(price), bands=bands, source=self._source)

    def _published(self, reference: str, place: Path, *, generates: bool) -> Rates | None:
        try:
            rates = published(reference.removeprefix(PREFIX), self._at_ms)
        except NotPublished as error:
            suggestion = near(reference, [PREFIX + name for name in error.suggestions])
            self._wrong(place, error.message, suggestion)
            return None
        if generates and not rates.output and rates.input:
            self._wrong(place, f"{reference} has no price for output: write the price out")
        return rates

    def _check(self, price: RatesEntry, place: Path, *, generates: bool) -> None:
        if price.output is None and generates:
            self._wrong(place, "the key 'output' is missing: a model that generates has a price for it")
        if price.cached_input is not None and price.cached_input > price.input:
            self._wrong((*place, "cached_input"), "cached input is never dearer than input; are the two swapped?")

    def _wrong(self, place: Path, message: str, suggestion: str | None = None) -> None:
        self._problems.append(self._marks.problem(place, message, suggestion=suggestion))


def _rates(price: RatesEntry) -> Rates:
    rates = [getattr(price, kind) for kind in KINDS]
    return Rates(rates[0], rates[1] or 0, *rates[2:])
