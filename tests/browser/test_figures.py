"""The scripts that take the documentation's pictures, in the Chromium that is here."""

from __future__ import annotations

import pathlib
import runpy
import struct

PROJECT = pathlib.Path(__file__).parents[2]


def test_the_inspectors_picture_can_be_taken(tmp_path: pathlib.Path) -> None:
    runpy.run_path(str(PROJECT / "docs" / "figures" / "inspector.py"))["take"](tmp_path)

    for scheme in ("light", "dark"):
        picture = (tmp_path / f"inspector-{scheme}.png").read_bytes()
        kept = (PROJECT / "docs" / "_static" / f"inspector-{scheme}.png").read_bytes()
        assert size(picture) == size(kept)
    assert (tmp_path / "inspector-light.png").read_bytes() != (tmp_path / "inspector-dark.png").read_bytes()


def test_the_panels_picture_can_be_taken(tmp_path: pathlib.Path) -> None:
    runpy.run_path(str(PROJECT / "docs" / "figures" / "panel.py"))["take"](tmp_path)

    for scheme in ("light", "dark"):
        picture = (tmp_path / f"panel-{scheme}.png").read_bytes()
        assert size(picture) == size((PROJECT / "docs" / "_static" / f"panel-{scheme}.png").read_bytes())
    assert (tmp_path / "panel-light.png").read_bytes() != (tmp_path / "panel-dark.png").read_bytes()


def size(png: bytes) -> tuple[int, int]:
    """Width and height, which a PNG has in its first chunk."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])
