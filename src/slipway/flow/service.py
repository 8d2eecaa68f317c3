"""The deployed service as the deploy stage recorded it: where it answers and which model it serves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipway.paths import ROOT, SECRETS, STATE

if TYPE_CHECKING:
    from pathlib import Path

API_KEY_FILE = SECRETS / "api-key"
_RECORD = STATE / "service.json"


@dataclass(frozen=True)
class Service:
    """How clients reach the service: base URL without a trailing slash, and the model's name."""

    url: str
    model: str

    @property
    def curl(self) -> str:
        """A command that streams tokens; it reads the API key from its file, so that no key is printed."""
        key = API_KEY_FILE.relative_to(ROOT)
        body = json.dumps({"model": self.model, "prompt": "The value of an object", "max_tokens": 64, "stream": True})
        return (
            f"curl -N {self.url}/v1/completions -H 'Content-Type: application/json' \\\n"
            f'  -H "Authorization: Bearer $(cat {key})" \\\n'
            f"  -d '{body}'"
        )


def deployed_service(record: Path = _RECORD) -> Service | None:
    """Return the service that deploy recorded, or None when nothing is deployed."""
    return Service(**json.loads(record.read_text(encoding="utf-8"))) if record.is_file() else None
