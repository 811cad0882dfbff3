"""Imports the library while a cassette of vcrpy is in use, and sends in it and after it."""

import vcr

with vcr.use_cassette("/nowhere/cassette.yaml", record_mode="none"):
    from prelude import send, sender

    events = sender()
    send(events, range(5))
    assert events.flush(30)
send(events, range(5, 10))
assert events.flush(30)
events.close()
