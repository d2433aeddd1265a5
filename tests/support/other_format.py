"""`deploytrail processor …` of a version in which the state of every app has the next format.

Run as `python -m support.other_format processor WORDS…`.
"""

from __future__ import annotations

import sys

from deploytrail_processors.processor_command import NAMES, main
from deploytrail_processors.state_formats import STATE_FORMATS, state_format

if __name__ == "__main__":
    STATE_FORMATS.update({name: state_format(name) + 1 for name in NAMES})
    sys.exit(main(sys.argv[2:]))
