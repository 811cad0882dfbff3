"""Opens a file of SQLite, runs statements on it, and waits. Arguments: the path, and the statements."""

import sqlite3
import sys

connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    connection.execute(statement).fetchone()
print("there", flush=True)
sys.stdin.readline()
