"""Sends with an outbox, as one of several processes, and notes each event that was accepted in a file.

Arguments: the outbox, the name of this process, the file for the notes, the lease and how many events, then the
flush_interval. Without events it ends with its input, else it waits to be killed.
"""

import itertools
import os
import sys
import time

from prelude import config, event, sender

from algolia_usertoken.events.outbox import SQLiteOutbox

path, name, accepted, lease, count, flush_interval = sys.argv[1:]
config = config()
config.headers["x-process"] = name
sender = sender(
    config=config, outbox=SQLiteOutbox(path, lease=float(lease)), flush_interval=float(flush_interval), batch_size=100
)
accepted = os.open(accepted, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for number in itertools.count() if count == "endless" else range(int(count)):
    if sender.send(event(f"{name}-{number}")):
        os.write(accepted, f"{name}-{number}\n".encode())
    if number % 10 == 9:
        time.sleep(0.005)
print("sent", flush=True)
if count != "0":
    time.sleep(3600)
sys.stdin.read()
