"""A timeline as an SVG picture: a lane each, times with their ±, no script and nothing from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

WIDTH, LANE, LEFT, TOP = 1000, 26, 330, 46
# Colours that people who see few colours can tell apart (Okabe and Ito), and a word beside each.
_COLOURS = {"alert": "#d55e00", "deployment": "#0072b2", "failed": "#cc79a7"}
_WORDS = {"alert": "alert", "deployment": "deployment", "failed": "failed or rolled back"}
_STEPS = (1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 604_800)
_LONGEST = 44


@dataclass(frozen=True, slots=True)
class Bar:
    """From `start` to `end`; None: it has not ended. `kind`: alert, deployment or failed. ± in ms."""

    kind: str
    label: str
    start: datetime
    end: datetime | None
    start_width: int = 0
    end_width: int = 0


def picture(title: str, bars: Sequence[Bar]) -> str:
    """The picture of bars, in their order; equal for equal bars."""
    if not bars:
        return ""
    first = min(bar.start for bar in bars)
    last = max(max(bar.end or bar.start for bar in bars), first + timedelta(seconds=10))
    scale = (WIDTH - LEFT - 20) / (last - first).total_seconds()

    def across(at: datetime) -> float:
        return LEFT + (at - first).total_seconds() * scale

    height = TOP + LANE * len(bars) + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="sans-serif" font-size="12"><title>{html.escape(title)}</title>',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    step = next((s for s in _STEPS if (last - first).total_seconds() / s <= 8), _STEPS[-1])
    for number in range(int((last - first).total_seconds() // step) + 1):
        at = first + timedelta(seconds=number * step)
        x = across(at)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{height - 30}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{TOP - 12}" text-anchor="middle">{at:%H:%M:%S}</text>')
    parts.append(f'<text x="8" y="{TOP - 12}">{first:%Y-%m-%d} UTC</text>')
    for number, bar in enumerate(bars):
        parts += _lane(bar, TOP + LANE * number, across, scale, last)
    for number, (kind, word) in enumerate(_WORDS.items()):
        x = LEFT + 170 * number
        parts.append(f'<rect x="{x}" y="{height - 20}" width="12" height="12" fill="{_COLOURS[kind]}"/>')
        parts.append(f'<text x="{x + 18}" y="{height - 10}">{word}</text>')
    return "".join(parts) + "</svg>"


def _lane(bar: Bar, y: int, at: Callable[[datetime], float], scale: float, last: datetime) -> list[str]:
    begins, ends = at(bar.start), at(bar.end or last)
    colour = _COLOURS[bar.kind]
    label = bar.label if len(bar.label) <= _LONGEST else f"{bar.label[: _LONGEST - 1]}…"
    open_end = ' fill-opacity="0.35" stroke-dasharray="4 3"' if bar.end is None else ""
    told = f"{bar.label}: {bar.start:%H:%M:%S} ± {bar.start_width} ms to " + (
        f"{bar.end:%H:%M:%S} ± {bar.end_width} ms" if bar.end else "an end that is not known"
    )
    parts = [
        f'<text x="8" y="{y + 14}">{html.escape(label)}</text>',
        f'<rect x="{begins:.1f}" y="{y + 3}" width="{max(ends - begins, 3):.1f}" height="{LANE - 10}" fill="{colour}" '
        f'stroke="{colour}"{open_end}><title>{html.escape(told)}</title></rect>',
    ]
    for x, width in ((begins, bar.start_width), (ends, bar.end_width if bar.end else 0)):
        half = width / 1000 * scale
        if half >= 1:
            parts.append(
                f'<line x1="{x - half:.1f}" x2="{x + half:.1f}" y1="{y + 11}" y2="{y + 11}" stroke="#000" '
                'stroke-width="2"/>'
            )
    return parts
