"""How much of the same is tried: more at full depth, as in `make test-coverage`."""

import os

IS_FULL = os.environ.get("TEST_DEPTH") == "full"
