"""`python -m detdistill` is `detdistill`."""

import sys

from detdistill.cli import main

if __name__ == "__main__":
    sys.exit(main())
