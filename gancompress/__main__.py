"""`python -m gancompress`."""

import sys

from gancompress.cli.main import main

sys.exit(main())
