"""Sends with an outbox, as one of several processes, and notes each event that was accepted in a file.

Arguments: the outbox, the name of this process, the file for the notes, the lease, how many events, or "endless", and
the flush_interval. Then it reads its input, and ends with it: "stop" stops the process, as SIGSTOP does, and "flush"
has it deliver and print whether all is settled.
"""

import contextlib
import itertools
import os
import signal
import sys
import time

import patient
from prelude import event, patient_config, sender

from algolia_usertoken.events.outbox import SQLiteOutbox

patient.with_files()
path, name, accepted, lease, count, flush_interval = sys.argv[1:]
config = patient_config()
config.headers["x-process"] = name
outbox = SQLiteOutbox(path, lease=float(lease))
sender = sender(config=config, outbox=outbox, flush_interval=float(flush_interval), batch_size=100)
accepted = os.open(accepted, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for number in itertools.count() if count == "endless" else range(int(count)):
    if sender.send(event(f"{name}-{number}")):
        os.write(accepted, f"{name}-{number}\n".encode())
    if number % 10 == 9:
        time.sleep(0.005)
print("sent", flush=True)
for line in sys.stdin:
    if line == "flush\n":
        print(sender.flush(patient.LONG), flush=True)
    else:
        # Not in the middle of a call: then nobody else could use the file.
        with contextlib.ExitStack() as between_calls:
            for connection in outbox.connections:
                between_calls.enter_context(connection.lock)
            os.kill(os.getpid(), signal.SIGSTOP)
