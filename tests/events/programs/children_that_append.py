"""Eight children append to one file while a thread of their parent does."""

import os
import sys
import threading

from algolia_usertoken.events.outbox import SQLiteOutbox

outbox = SQLiteOutbox(sys.argv[1])
stop = threading.Event()


def go_on() -> None:
    while not stop.is_set():
        outbox.append(b"{}")


thread = threading.Thread(target=go_on)
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
