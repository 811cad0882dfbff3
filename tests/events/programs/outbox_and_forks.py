"""Forks 8 times while a thread sends with an outbox; the children send too. Prints the thread's last number."""

import os
import sys
import threading
import time

import patient
from prelude import event, send, sender

from algolia_usertoken.events.outbox import SQLiteOutbox

patient.with_files()
sender = sender(outbox=SQLiteOutbox(sys.argv[1], lease=1000), flush_interval=0.2)
assert send(sender, range(200)) == 200
stop = threading.Event()


def go_on() -> None:
    number = 10_000
    while not stop.is_set():
        number += sender.send(event(number))
        time.sleep(0.0005)  # or on a busy machine the others find no gap
    print(number, flush=True)


thread = threading.Thread(target=go_on)
thread.start()
for child in range(1, 9):
    time.sleep(0.02)
    pid = os.fork()
    if not pid:
        assert sender.stats.queued == 0
        for number in range(child * 1000, child * 1000 + 100):
            assert sender.send(event(number))
        assert sender.flush(100)
        assert sender.stats.delivered == 100
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
stop.set()
thread.join()
assert sender.close(100)
