"""Eight children append to one file while a thread of their parent does."""

import os
import sys
import threading

import patient

from algolia_usertoken.events.outbox import ADOPTED_AT_ONCE, SQLiteOutbox

patient.with_files()
outbox = SQLiteOutbox(sys.argv[1])
stop = threading.Event()
MOST_OF_THE_PARENT = ADOPTED_AT_ONCE - 8 * 100  # so that there is room for the events of all children at once


def go_on() -> None:
    for _ in range(MOST_OF_THE_PARENT):
        if stop.is_set():
            return
        outbox.append(b"{}")


thread = threading.Thread(target=go_on, daemon=True)  # so that a failure below ends the program
thread.start()
children = []
for _ in range(8):
    pid = os.fork()
    if not pid:
        assert len(outbox) == 0
        for _ in range(100):
            outbox.append(b"{}")
        assert len(outbox.take(1000)) == 100
        outbox.close()
        os._exit(0)
    children.append(pid)
assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 8
stop.set()
thread.join()
outbox.keep()
waiting = len(outbox)
assert outbox.counts() == (waiting, 800, 0), outbox.counts()
assert len(outbox.take(10**6)) == waiting
