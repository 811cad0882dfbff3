"""The demo: visitors search and click at the same time, and a table shows what the server received from each of them.

`records` has the records that they search, `visitors` their actions; `report` compares these with what the server
received.
"""

from __future__ import annotations

import json
import logging

from .progress import step
from .records import Record, RecordsError, catalogue, read_records, search_words

__all__ = ["RecordsError", "catalogue", "read_records", "run"]


def run(records: list[Record], *, as_json: bool = False) -> int:
    """Run the demo on `records` and print its report.

    Returns:
        The exit code: 1 if a search or an event arrived under a wrong identity, else 0.
    """
    # Visitors without a user token click too. Their events are refused, which is logged; the table shows it already.
    logging.getLogger("algolia_usertoken").addHandler(logging.NullHandler())

    with step("starting"):
        from ..testing import LocalAlgolia
        from . import report, visitors

    with LocalAlgolia() as algolia:
        with step(f"indexing {len(records):,} records"):
            visitors.index(algolia, records)
        crowd = visitors.crowd()
        with step("visitors are searching"):
            visitors.visit(algolia, crowd, search_words(records))
        result = report.compare(crowd, algolia)

    print(json.dumps(result.as_dict(), indent=2) if as_json else report.as_table(result))
    return 1 if result.mismatches else 0
