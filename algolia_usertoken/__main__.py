"""`python -m algolia_usertoken` is the command `algolia-usertoken`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
