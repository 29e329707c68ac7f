"""Run the command: ``python -m ymir_nb``."""

import sys

from ymir_nb.cli import main

sys.exit(main())
