"""Where the packed program begins."""

import sys

from notfallserver.agent.windows.main import main

sys.exit(main())
