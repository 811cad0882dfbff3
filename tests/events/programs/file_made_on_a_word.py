"""Waits for a line, then opens the outbox and appends one event."""

import sys

import patient

from algolia_usertoken.events.outbox import SQLiteOutbox

patient.with_files()
print("ready", flush=True)
sys.stdin.readline()
outbox = SQLiteOutbox(sys.argv[1])
outbox.append(b"{}")
outbox.keep()
outbox.close()
