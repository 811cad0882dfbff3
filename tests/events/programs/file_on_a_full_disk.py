"""Appends to a file that may not grow, settles some, and appends when it may grow again."""

import resource
import sys

from algolia_usertoken.errors import OutboxError
from algolia_usertoken.events.outbox import SQLiteOutbox


def limit(most):
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


outbox = SQLiteOutbox(sys.argv[1])
limit(500_000)
kept, refused = 0, set()
for number in range(900):
    try:
        outbox.append(b'{"number":%d}' % number)
        kept += 1
    except OutboxError as error:
        refused.add(str(error))
assert 0 < kept < 900
assert len(outbox) == kept
assert all("full" in one or "I/O" in one for one in refused), refused
taken = outbox.take(5)
outbox.took()
try:
    outbox.settle(taken)
except OutboxError as error:
    assert "5 events that were delivered or given up could not be removed" in str(error), error
else:
    raise AssertionError("there was room")
limit(resource.RLIM_INFINITY)
outbox.keep()
outbox.append(b"{}")
assert len(outbox.take(1000)) == kept - 5 + 1
outbox.close()
