"""`python -m token_service`: serve until SIGTERM."""

from __future__ import annotations

import sys

from token_service import supervisor

if __name__ == "__main__":
    sys.exit(supervisor.main())
