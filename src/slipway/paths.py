"""Where things live in a checkout. Every other module asks here; nothing else spells a path twice."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(os.environ.get("SLIPWAY_ROOT", Path(__file__).resolve().parents[2]))
"""The checkout: SLIPWAY_ROOT where set, otherwise the folder that holds `src/`."""

STATE = ROOT / ".slipway"
"""Working state, ignored by git."""

CACHE = STATE / "cache"
"""Downloads and package cache; kept by `destroy --keep-cache`."""

CHANNEL = STATE / "channel"
"""The private conda channel: `noarch/` and `linux-64/` with their repodata."""

SECRETS = STATE / "secrets"
LOGS = STATE / "logs"
ENVS = STATE / "envs"
REPORTS = ROOT / "reports"
LOCKS = ROOT / "locks"
IMAGES = ROOT / "images"
