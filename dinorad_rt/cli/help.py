"""How `--help` reads: values in one word, panels in long verbs, lines as wide as the screen.

typer prints `<int range> [0<=x<=4294967295]`, which leaves a third of 80 columns to the words.
"""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any

FEW_OPTIONS = 12
"""A verb with at most so many options shows them in one panel."""
_VALUES = {"path": "PATH", "int": "N", "float": "X", "str": "TEXT"}


def tidy(command: Any) -> None:
    """Make the help of a command, and of its sub-commands, readable in 80 columns.

    Args:
        command: of click, changed in place.
    """
    from typer import rich_utils

    rich_utils.RANGE_STRING = ""  # who leaves a range is told it
    for other in getattr(command, "commands", {}).values():
        tidy(other)
    command.help = joined(command.help or "")
    options = [item for item in command.params if item.param_type_name == "option"]
    panels = Counter(getattr(item, "rich_help_panel", None) for item in options)
    for parameter in command.params:
        if parameter.metavar is None and not getattr(parameter, "is_flag", False):
            is_option = parameter in options
            parameter.metavar = _value_of(parameter.type) if is_option else parameter.name.upper()
        if len(options) <= FEW_OPTIONS or panels[parameter.rich_help_panel] == 1:
            parameter.rich_help_panel = None


def joined(text: str) -> str:
    """Paragraphs of one line each, for the terminal to wrap.

    Args:
        text: a docstring.
    """
    return "\n\n".join(part.replace("\n", " ") for part in inspect.cleandoc(text).split("\n\n"))


def _value_of(kind: Any) -> str | None:
    """What stands for a value, by its type; None leaves choices, which are told one by one."""
    return _VALUES.get(kind.name.split()[0])
