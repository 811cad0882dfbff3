"""Draws the pictures of the documentation, as SVG, in light and in dark: `python docs/figures/draw.py`.

They are committed; a test draws them anew and compares.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from xml.sax.saxutils import escape

STATIC = pathlib.Path(__file__).parent.parent / "_static"
VISITORS = ("Ada", "Ben", "Cyd")
TOKENS = ("anonymous-1f3a", "anonymous-77c0", "anonymous-e4b9")
WIDTH, HEIGHT = 360, 230
ROWS = (58, 118, 178)
FONT = "font-family='system-ui, sans-serif'"
MONO = "font-family='ui-monospace, monospace'"


@dataclass(frozen=True)
class Colours:
    ink: str
    quiet: str
    line: str
    box: str
    people: tuple[str, str, str]


THEMES = {
    "light": Colours("#1f2933", "#5b6672", "#a9b4bf", "#f3f5f7", ("#1d6fd1", "#b4491a", "#1c7d4d")),
    "dark": Colours("#e6eaee", "#a3aeb9", "#5d6873", "#20262c", ("#6eb0ff", "#ff9d6c", "#5fce97")),
}


def text(
    x: float, y: float, words: str, colour: str, *, size: int = 13, anchor: str = "middle", font: str = FONT
) -> str:
    return (
        f"<text x='{x}' y='{y}' fill='{colour}' font-size='{size}' text-anchor='{anchor}' {font}>{escape(words)}</text>"
    )


def person(x: float, y: float, colour: str) -> str:
    shoulders = f"M{x - 11},{y + 16} a11,11 0 0 1 22,0 z"
    return f"<circle cx='{x}' cy='{y - 5}' r='7' fill='{colour}'/><path d='{shoulders}' fill='{colour}'/>"


def arrow(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f"<line x1='{x1}' y1='{y1}' x2='{x2}' y2='{y2}' stroke='{colour}' stroke-width='2' marker-end='url(#tip)'/>"


def box(x: float, y: float, width: float, height: float, colours: Colours) -> str:
    return (
        f"<rect x='{x}' y='{y}' width='{width}' height='{height}' rx='8' fill='{colours.box}' stroke='{colours.line}'/>"
    )


def picture(description: str, shapes: list[str]) -> str:
    tip = (
        "<defs><marker id='tip' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='5' markerHeight='5' orient='auto'>"
        "<path d='M0,0 L8,4 L0,8 z' fill='context-stroke'/></marker></defs>"
    )
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' role='img'>"
    return "\n".join([head, f"<title>{escape(description)}</title>", tip, *shapes, "</svg>"]) + "\n"


def site(colours: Colours, arrows: tuple[str, ...]) -> list[str]:
    """The visitors, and the server that they all talk to; `arrows` are the colours of what goes on from there."""
    shapes = [box(108, 88, 74, 60, colours), text(145, 122, "server", colours.ink)]
    for name, row, colour in zip(VISITORS, ROWS, colours.people, strict=True):
        shapes += [person(30, row, colour), text(30, row + 32, name, colours.quiet, size=12)]
        shapes.append(arrow(48, row, 104, 118 + (row - 118) / 4, colours.line))
    if len(arrows) == 1:
        shapes.append(arrow(184, 118, 214, 118, arrows[0]))
    else:
        shapes += [
            arrow(184, 118 + (row - 118) / 4, 214, row, colour) for row, colour in zip(ROWS, arrows, strict=True)
        ]
    shapes += [box(218, 24, 138, 198, colours), text(287, 16, "what Algolia sees", colours.quiet, size=12)]
    return shapes


def before(colours: Colours) -> str:
    shapes = site(colours, (colours.line,))
    shapes += [
        person(287, 92, colours.quiet),
        text(287, 132, "203.0.113.1", colours.ink, font=MONO, size=12),
        text(287, 152, "300 searches", colours.quiet, size=12),
    ]
    return picture("Before: three visitors search through one server, and Algolia sees one user, its address.", shapes)


def after(colours: Colours) -> str:
    shapes = site(colours, colours.people)
    for token, row, colour in zip(TOKENS, ROWS, colours.people, strict=True):
        shapes += [
            person(240, row, colour),
            text(258, row, token, colours.ink, anchor="start", font=MONO, size=11),
            text(258, row + 16, "100 searches", colours.quiet, anchor="start", size=12),
        ]
    return picture("After: each search carries its visitor's token, and Algolia sees three users.", shapes)


FIGURES: dict[str, Callable[[Colours], str]] = {"before": before, "after": after}


def drawn() -> dict[str, str]:
    """Each file's name, and what is in it."""
    return {f"{name}-{theme}.svg": draw(colours) for name, draw in FIGURES.items() for theme, colours in THEMES.items()}


if __name__ == "__main__":
    for name, content in drawn().items():
        (STATIC / name).write_text(content, encoding="utf-8")
