"""The pictures of the documentation are those that their script draws, and each page's picture is one of them."""

from __future__ import annotations

import pathlib
import re
import runpy
from xml.etree import ElementTree

import pytest

pytestmark = pytest.mark.adds_no_coverage

DOCS = pathlib.Path(__file__).parent.parent / "docs"


def drawn() -> dict[str, str]:
    return runpy.run_path(str(DOCS / "figures" / "draw.py"))["drawn"]()


def test_figures_are_as_the_program_draws_them() -> None:
    for name, content in drawn().items():
        assert (DOCS / "_static" / name).read_text(encoding="utf-8") == content, f"run docs/figures/draw.py for {name}"


def test_each_figure_is_readable_and_says_what_it_shows() -> None:
    for content in drawn().values():
        root = ElementTree.fromstring(content)
        assert root.find("{http://www.w3.org/2000/svg}title").text


def test_every_picture_of_a_page_is_there_and_is_described() -> None:
    for page in DOCS.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        pictures = re.findall(r"\{image\} (\S+)\n((?::\w+:.*\n)*)", text)
        assert len(pictures) == text.count("{image}")
        for path, options in pictures:
            assert (DOCS / path).is_file()
            assert ":alt: " in options
