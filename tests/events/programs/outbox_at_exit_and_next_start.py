"""Sends as many events as the argument says and exits, or, told 0, delivers what an earlier run has left."""

import sys
import time

import patient
from prelude import send, sender

from algolia_usertoken.events.outbox import SQLiteOutbox

patient.with_files(closing=False)
sender = sender(outbox=SQLiteOutbox(sys.argv[1], lease=1), close_timeout=0.3, flush_interval=600)
assert send(sender, range(int(sys.argv[2]))) == int(sys.argv[2])
if sys.argv[2] == "300":
    sender.flush(0)  # all leave in one request, however slowly they were sent
    sys.stdin.readline()
while sys.argv[2] == "0" and sender.stats.delivered < 300:
    sender.flush(0)
    time.sleep(0.01)
