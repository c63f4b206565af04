"""``python -m ibllm``: the command line."""

import sys

from ibllm_cli.main import main

sys.exit(main())
