"""`python -m polyclinic` is the same as `polyclinic`."""

import sys

from polyclinic.cli import main

if __name__ == "__main__":
    sys.exit(main())
