"""Uses a client and a sender where Python was built without sqlite3."""

import sys
import typing

sys.modules["sqlite3"] = None

from algolia_usertoken import EventSender, MemoryDelivery, TokenAwareClientSync

TokenAwareClientSync("A", "k").close()
with EventSender(user_token="u", delivery=MemoryDelivery()) as events:
    assert events.viewed_object_ids("Viewed", "products", ["1"])
typing.get_type_hints(EventSender.__init__)
try:
    from algolia_usertoken import SQLiteOutbox  # noqa: F401
except ImportError as error:
    assert "sqlite3" in str(error)
else:
    raise AssertionError("there is an SQLiteOutbox")
