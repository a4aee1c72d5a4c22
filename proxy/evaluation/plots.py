"""Plots as SVG. Colours come from the page's style; shapes tell apart what colours do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Final

from proxy.evaluation.findings import Findings, Tally
from proxy.evaluation.statistics import Interval
from proxy.pricing.money import NANO_PER_USD

WIDTH: Final = 800
_LEFT: Final = 150
_RIGHT: Final = 30
_ROW: Final = 46
_SCATTER_HEIGHT: Final = 360


def shares_by_domain(tallies: Mapping[str, Tally]) -> str:
    """Win rate (circles) and loss rate (squares) with their intervals, a row each."""
    height = 50 + _ROW * len(tallies)
    parts = _grid([share / 5 for share in range(6)], height, lambda share: f"{100 * share:.0f} %", 0, 1)
    for row, (name, tally) in enumerate(tallies.items()):
        y = 24 + _ROW * row
        parts.append(_text(_LEFT - 12, y + 12, f"{name} ({tally.count})", "end"))
        parts += _whisker(tally.win_rate, y, "win", 0, 1, square=False)
        parts += _whisker(tally.loss_rate, y + 16, "loss", 0, 1, square=True)
    rows = "; ".join(
        f"{name}: {_interval(tally.win_rate)} won, {_interval(tally.loss_rate)} lost" for name, tally in tallies.items()
    )
    return _svg(height, "Share of questions won and lost", rows, parts)


def differences(findings: Findings) -> str:
    """Rubric difference of each question, sorted; the margin as a band, the mean with its interval on top."""
    ordered = sorted(one.difference for one in findings.questions if one.difference is not None)
    step = _step(max([0.1, *(abs(value) for value in ordered)]) / 2)
    reach = 2 * step
    height = 90 + 4 * len(ordered)
    margin = findings.plan.rubric_margin
    left, right = _x(-margin, -reach, reach), _x(margin, -reach, reach)
    parts = [f'<rect class="band" x="{left:.1f}" y="10" width="{right - left:.1f}" height="{height - 40}"/>']
    parts += _grid([step * times for times in (-2, -1, 0, 1, 2)], height, lambda value: f"{value:+.2f}", -reach, reach)
    zero = _x(0, -reach, reach)
    for row, value in enumerate(ordered):
        y, x = 60 + 4 * row, _x(value, -reach, reach)
        sign = "win" if value > 0 else "loss" if value < 0 else "mean"
        parts.append(f'<line class="{sign}" x1="{zero:.1f}" y1="{y}" x2="{x:.1f}" y2="{y}" stroke-width="2.5"/>')
    parts.append(_text(_LEFT - 12, 34, "mean", "end"))
    if len(ordered) > 1:
        parts += _whisker(findings.difference, 30, "mean", -reach, reach, square=False)
    said = f"{len(ordered)} questions, mean {_signed(findings.difference)}, margin {margin:g}"
    return _svg(height, "Rubric score of the candidate less the baseline's", said, parts)


def cost_and_latency(findings: Findings) -> str:
    """A point for each model that has both: median seconds to the right, cost of an answer upwards."""
    points = [
        (name, one.seconds_median, one.cost_each / NANO_PER_USD)
        for name, one in findings.spending.items()
        if one.seconds_median is not None and one.cost_each is not None
    ]
    if not points:
        return ""
    across, up = _step(max(x for _, x, _ in points) / 3.5), _step(max(y for _, _, y in points) / 3.5)
    slowest, dearest = 4 * across, 4 * up
    parts = _grid([across * step for step in range(5)], _SCATTER_HEIGHT, lambda value: f"{value:.3g} s", 0, slowest)
    for step in range(5):
        y = _SCATTER_HEIGHT - 30 - step / 4 * (_SCATTER_HEIGHT - 50)
        parts.append(_text(_LEFT - 12, y + 4, f"${up * step:.3g}", "end"))
        parts.append(f'<line class="axis" x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}"/>')
    for name, seconds, usd in points:
        x, y = _x(seconds, 0, slowest), _SCATTER_HEIGHT - 30 - usd / dearest * (_SCATTER_HEIGHT - 50)
        ours = name == findings.plan.candidate.name
        parts.append(_mark(x, y, "win" if ours else "loss", square=not ours))
        near_edge = x > WIDTH - 220
        parts.append(_text(x + (-10 if near_edge else 10), y - 8, name, "end" if near_edge else "start"))
    said = "; ".join(f"{name}: {seconds:.3g} s, ${usd:.3g}" for name, seconds, usd in points)
    return _svg(_SCATTER_HEIGHT, "Median seconds and mean cost of an answer", said, parts)


def _step(least: float) -> float:
    """The next of 1, 2, 2.5, 5 and 10 times a power of ten."""
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * step for step in (1, 2, 2.5, 5, 10) if power * step >= least * (1 - 1e-9))


def _svg(height: int, title: str, description: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>{''.join(parts)}</svg>"
    )


def _grid(ticks: Sequence[float], height: int, label: Callable[[float], str], low: float, high: float) -> list[str]:
    parts = []
    for tick in ticks:
        x = _x(tick, low, high)
        parts.append(f'<line class="axis" x1="{x:.1f}" y1="10" x2="{x:.1f}" y2="{height - 30}"/>')
        parts.append(_text(x, height - 10, label(tick), "middle", "quiet"))
    return parts


def _whisker(interval: Interval, y: float, kind: str, low: float, high: float, *, square: bool) -> list[str]:
    left, right = (_x(min(high, max(low, end)), low, high) for end in (interval.low, interval.high))
    line = f'<line class="{kind}" x1="{left:.1f}" y1="{y}" x2="{right:.1f}" y2="{y}" stroke-width="2"/>'
    return [line, _mark(_x(interval.estimate, low, high), y, kind, square=square)]


def _mark(x: float, y: float, kind: str, *, square: bool) -> str:
    if square:
        return f'<rect class="{kind}" x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10"/>'
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5.5"/>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    shown = f' class="{kind}"' if kind else ""
    return f'<text{shown} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _x(value: float, low: float, high: float) -> float:
    return _LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)


def _interval(interval: Interval) -> str:
    return f"{100 * interval.estimate:.0f} % ({100 * interval.low:.0f} to {100 * interval.high:.0f})"


def _signed(interval: Interval) -> str:
    if math.isinf(interval.low):
        return "not known"
    return f"{interval.estimate:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"
