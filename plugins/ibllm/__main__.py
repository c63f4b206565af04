"""``python -m ibllm``: the command line."""

import sys

from ibllm_core.cli.main import main

sys.exit(main())
