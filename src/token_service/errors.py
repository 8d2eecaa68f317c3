"""Failures at start: one message that names the thing, what was seen, the rule, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class StartError(Exception):
    """The service cannot start; printed without a traceback, exit status 1.

    Attributes:
        what: One sentence that names the setting or file at fault.
        seen: What was found.
        rule: What was expected instead.
        mend: What to change or run next.
    """

    what: str
    seen: str = ""
    rule: str = ""
    mend: str = ""

    def __str__(self) -> str:
        """Render one line per known part."""
        rows = [("seen", self.seen), ("rule", self.rule), ("mend", self.mend)]
        return "\n".join([f"token_service: {self.what}", *(f"  {name}: {text}" for name, text in rows if text)])
