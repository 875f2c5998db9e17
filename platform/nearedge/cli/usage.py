"""Misspelled commands and options: one line, as for every other mistake."""

import sys
from difflib import get_close_matches
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from nearedge_db.errors import UserError

UsageError: Any = typer.BadParameter.__bases__[0]
"""Any wrong call; Typer gives it no name of its own, and where it is from depends on the version."""


class Commands(TyperGroup):
    """A group of commands that asks what was meant."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that ``args`` begin with. Raises UserError where there is none of that name."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            alike = get_close_matches(name, self.list_commands(ctx), n=1)
            here = ctx.command_path
            fix = f"did you mean `{here} {alike[0]}`?" if alike else f"see `{here} --help`"
            raise UserError("there is no such command", got=repr(name), fix=fix)
        return super().resolve_command(ctx, args)


def complain(error: Any) -> NoReturn:
    """Print what is wrong with the call in one line, and exit with 2; the help where nothing at all was asked for."""
    message = error.format_message()
    if not message:
        sys.exit(error.exit_code)  # the help has been printed
    if "\n" in message:
        error.show()
    else:
        where = error.ctx.command_path if error.ctx else "nearedge"
        told = f"{message[:1].lower()}{message[1:].rstrip('.')}"
        sys.stderr.write(f"error: {told}; see `{where} --help`\n")
    sys.exit(error.exit_code)
