"""The one error users see: what was found, the rule it breaks, where to mend it, what to run next."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class SlipwayError(Exception):
    """A failure that the user can mend; commands print it without a traceback and exit with `exit_code`.

    Attributes:
        what: One sentence that names the thing which failed.
        seen: The value or answer that was found.
        rule: What was expected instead.
        edit: The file (with line where known) or setting to change; empty when there is none.
        run: The command to run next; empty when there is none.
        exit_code: Process exit status, 1 to 125.
    """

    what: str
    seen: str = ""
    rule: str = ""
    edit: str = ""
    run: str = ""
    exit_code: int = 1

    def __str__(self) -> str:
        """Render the message as printed to the user: one line per part that is known."""
        rows = [("seen", self.seen), ("rule", self.rule), ("edit", self.edit), ("run", self.run)]
        return "\n".join([self.what, *(f"  {name}: {value}" for name, value in rows if value)])
