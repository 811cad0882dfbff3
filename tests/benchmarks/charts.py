"""Bar charts as plain SVG, readable on light and on dark ground."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, ROW, BAR, TOP = 680, 236, 84, 34, 18, 44

# As an image of its own the chart follows the system; inside a page, it has the colour of the text around it.
_STYLE = """
.events-chart { font: 14px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.events-chart text { fill: currentColor; }
.events-chart .title { font-weight: 600; font-size: 15px; }
.events-chart .ours { fill: #2f7de1; }
.events-chart .theirs { fill: currentColor; opacity: .35; }
.events-chart .ground { stroke: currentColor; opacity: .35; }
svg.events-chart:root { color: #1f2328; }
@media (prefers-color-scheme: dark) { svg.events-chart:root { color: #e6edf3; } }
"""


def bars(title: str, labels: Mapping[str, str], values: Mapping[str, float], ours: Collection[str]) -> str:
    """One bar for each value, in the order given; those of `ours` stand out."""
    longest = max(values.values())
    height = TOP + ROW * len(values) + 10
    described = "; ".join(f"{labels[name]}: {_figure(value)}" for name, value in values.items())
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" style="max-width: 100%; height: auto"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="events-chart" {size} role="img"',
        f'  aria-label="{escape(f"{title}. {described}")}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="24">{escape(title)}</text>',
    ]
    for i, (name, value) in enumerate(values.items()):
        y = TOP + ROW * i
        length = max(2.0, value / longest * (WIDTH - LEFT - RIGHT))
        middle = y + BAR / 2 + 5
        kind = "ours" if name in ours else "theirs"
        lines += [
            f'<text x="{LEFT - 10}" y="{middle}" text-anchor="end">{escape(labels[name])}</text>',
            f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>',
            f'<text x="{LEFT + length + 8:.1f}" y="{middle}">{_figure(value)}</text>',
        ]
    lines += [f'<line class="ground" x1="{LEFT}" y1="{TOP - 8}" x2="{LEFT}" y2="{height - 10}"/>', "</svg>"]
    return "\n".join(lines) + "\n"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
