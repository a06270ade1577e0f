"""What every option takes: finite numbers, and paths that are not empty and know `~`.

`nan` passes every range and `inf` many. An empty path comes of an unset variable of a script and
would mean the current folder; `--out=~/runs` reaches the program with its `~`.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable
from typing import Any

import typer

Check = Callable[[Any, Any, Any], Any]
_WORDS_OR_PATHS = ("weights", "study", "splits")


def check_values(command: Any) -> None:
    """Make the parameters of a command, and of its sub-commands, take only what means something.

    Args:
        command: of click, changed in place.
    """
    for other in getattr(command, "commands", {}).values():
        check_values(other)
    for parameter in command.params:
        kind = parameter.type.name
        is_path = kind == "path" or parameter.name in _WORDS_OR_PATHS
        check = _finite if kind.startswith("float") else _path if is_path else None
        if check is not None:
            parameter.type = copy.copy(parameter.type)  # it may be the one of all commands
            parameter.type.convert = check(parameter.type.convert)


def _finite(convert: Check) -> Check:
    def checked(value: Any, parameter: Any, context: Any) -> Any:
        number = convert(value, parameter, context)
        if isinstance(number, float) and not math.isfinite(number):
            raise typer.BadParameter(f"{value} is not a finite number.", context, parameter)
        return number

    return checked


def _path(convert: Check) -> Check:
    def checked(value: Any, parameter: Any, context: Any) -> Any:
        if isinstance(value, str) and not value.strip():
            raise typer.BadParameter("The path is empty.", context, parameter)
        known = os.path.expanduser(value) if isinstance(value, str) else value
        return convert(known, parameter, context)

    return checked
