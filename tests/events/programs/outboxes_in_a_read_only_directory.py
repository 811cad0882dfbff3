"""Opens a new, an old and an unreadable outbox as a user who may not write there, and prints the errors."""

import os
import sys

from algolia_usertoken.errors import OutboxError
from algolia_usertoken.events.outbox import SQLiteOutbox

if os.getuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)
for name in ("new.db", "old.db", "closed.db"):
    try:
        SQLiteOutbox(os.path.join(sys.argv[1], name))
    except OutboxError as error:
        print(error)
