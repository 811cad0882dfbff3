"""Forks while a thread is in the middle of a long call of SQLite; the child appends."""

import os
import sys
import threading
import time

from algolia_usertoken.errors import OutboxError
from algolia_usertoken.events.outbox import SQLiteOutbox

outbox = SQLiteOutbox(sys.argv[1])
outbox.append(b"{}")
inside, go_on = threading.Event(), threading.Event()


def long_call(connection):
    inside.set()
    go_on.wait()


thread = threading.Thread(target=outbox.rows.keeper.run, args=(long_call,))
thread.start()
inside.wait()
started = time.monotonic()
pid = os.fork()
if not pid:
    try:
        outbox.append(b"{}")
    except OutboxError as error:
        assert "forked while the file was open" in str(error), error
        os._exit(0)
    os._exit(1)
assert time.monotonic() - started < 60  # it would wait for ever
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
go_on.set()
thread.join()
outbox.append(b"{}")
assert len(outbox.take(9)) == 2
