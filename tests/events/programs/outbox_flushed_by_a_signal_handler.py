"""Sends with an outbox while a signal's handler flushes it, again and again."""

import os
import signal
import sys
import threading
import time

import patient
from prelude import event, sender

from algolia_usertoken.events.outbox import SQLiteOutbox

patient.with_files()
with sender(outbox=SQLiteOutbox(sys.argv[1])) as sender:
    answers = []

    def handler(*_):
        answers.append(sender.flush(100))

    signal.signal(signal.SIGUSR1, handler)

    def interrupt() -> None:
        for _ in range(15):
            time.sleep(0.03)
            os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=interrupt)
    thread.start()
    while thread.is_alive():
        sender.send(event(1))
    assert answers
    assert all(answers), answers
