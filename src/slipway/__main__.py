"""`python -m slipway NOUN ...`: the commands that nox sessions and Ansible roles call."""

from __future__ import annotations

import importlib
import sys

import click

from slipway import __version__
from slipway.errors import SlipwayError

_COMMANDS = {
    "channel": "slipway.channel.cli",
    "chat": "slipway.chat",
    "dev": "slipway.dev",
    "flow": "slipway.flow.cli",
    "image": "slipway.image.cli",
    "keys": "slipway.keys",
    "lock": "slipway.lock.cli",
    "molecule": "slipway.molecule",
    "roles": "slipway.roles",
    "stack": "slipway.stack.cli",
    "verify": "slipway.verify",
}
"""Command name -> module that holds it as `command`; imported only when called, so that `--help` stays fast."""


class _LazyGroup(click.Group):
    """A click group that imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command = importlib.import_module(_COMMANDS[cmd_name]).command
        if not isinstance(command, click.Command):
            raise TypeError(f"{_COMMANDS[cmd_name]}.command is not a click command")
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Slipway: build the channel, the images and the deployment, one noun at a time."""


def run() -> None:
    """Run the command line; a `SlipwayError` becomes one message on standard error and its exit status."""
    try:
        main(prog_name="slipway")
    except SlipwayError as error:
        sys.stderr.write(f"slipway: {error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    run()
