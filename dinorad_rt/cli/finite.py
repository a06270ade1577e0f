"""Numbers of options are finite: `nan` passes every range, `inf` many, and neither is meant."""

from __future__ import annotations

import copy
import math
from typing import Any

import typer


def finite_numbers(command: Any) -> None:
    """Make the options of a command, and of its sub-commands, refuse what is no finite number.

    Args:
        command: of click, changed in place.
    """
    for other in getattr(command, "commands", {}).values():
        finite_numbers(other)
    for option in command.params:
        if option.type.name.startswith("float"):
            option.type = copy.copy(option.type)  # it may be the one of all commands
            option.type.convert = _finite(option.type.convert)


def _finite(convert: Any) -> Any:
    def checked(value: Any, param: Any, ctx: Any) -> Any:
        number = convert(value, param, ctx)
        if isinstance(number, float) and not math.isfinite(number):
            raise typer.BadParameter(f"{value} is not a finite number.", ctx, param)
        return number

    return checked
