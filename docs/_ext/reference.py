"""What of the site is made from the code at build time, so that it cannot go stale.

Pages below docs/reference/cli, one per verb, are written into the source tree, where git ignores
them. Tables and lists of names are MyST substitutions.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

OPTION = re.compile(r"(?<![\w`-])(--[a-z][\w-]*)")
LINK = re.compile(r"\]\((?![a-z]+:)([^)#]+)")
INCLUDE = re.compile(r"^```\{include\} (\S+)$", re.MULTILINE)


def write_pages(docs: Path) -> None:
    """Write the pages of the verbs, and no other; those whose text is the same keep their date.

    Args:
        docs: the folder of the site's sources.
    """
    folder = docs / "reference" / "cli"
    folder.mkdir(exist_ok=True)
    pages = verb_pages()
    for gone in [path for path in folder.glob("*.md") if path.stem not in pages]:
        gone.unlink()
    for verb, text in pages.items():
        target = folder / f"{verb}.md"
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")


def turn_links(docs: Path, path: Path, content: list[str]) -> None:
    """Turn the links of a file of the repository to the pages that show their targets.

    Args:
        docs: the folder of the site's sources.
        path: of the file, relative to it.
        content: of the file, changed in place.
    """
    shown = {(docs / "../README.md").resolve(): "../index.md"}
    for page in (docs / "project").glob("*.md"):
        for included in INCLUDE.findall(page.read_text(encoding="utf-8")):
            shown[(page.parent / included).resolve()] = page.name

    def turned(found: re.Match[str]) -> str:
        return f"]({shown.get((docs / path.parent / found[1]).resolve(), found[1])}"

    content[0] = LINK.sub(turned, content[0])


def verb_pages() -> dict[str, str]:
    """Verb → its page, from the typer application: every option with its values and default."""
    from typer.main import get_command

    from dinorad_rt.cli.verbs import VERBS, app

    program: Any = get_command(app)
    pages = {}
    for verb in VERBS:
        command = program.get_command(None, verb)
        lines = [f"# {verb}", "", *_command_lines(f"dinorad-rt {verb}", command)]
        for name, other in getattr(command, "commands", {}).items():
            lines += [f"## {verb} {name}", "", *_command_lines(f"dinorad-rt {verb} {name}", other)]
        pages[verb] = "\n".join(lines)
    return pages


def _command_lines(called: str, command: Any) -> Iterator[str]:
    arguments = [item for item in command.params if item.param_type_name == "argument"]
    options = [item for item in command.params if item.param_type_name == "option"]
    words = [item.metavar if item.required else f"[{item.metavar}]" for item in arguments]
    last = ["COMMAND"] if hasattr(command, "commands") else ["[OPTIONS]"]
    yield from ("```text", " ".join([called, *last, *words]), "```", "", marked(command.help), "")
    for item in arguments:
        yield from (f"`{item.metavar}`", f": {_told(item)}", "")
    yield from (f":::{{program}} {called}", ":::", "")
    for panel, members in _by_panel(options).items():
        if panel:
            yield from (f"## {panel}", "")
        for item in members:
            yield from (f":::{{option}} {_spelled(item)}", _told(item), ":::", "")


def _by_panel(options: Iterable[Any]) -> dict[str, list[Any]]:
    panels: dict[str, list[Any]] = {"": []}
    for item in options:
        if item.name != "help":
            panels.setdefault(getattr(item, "rich_help_panel", None) or "", []).append(item)
    return panels


def _spelled(option: Any) -> str:
    """`--model NAME, -m NAME`; `--flip, --no-flip`."""
    value = "" if getattr(option, "is_flag", False) else f" {option.metavar or 'VALUE'}"
    return ", ".join(f"{name}{value}" for name in (*option.opts, *option.secondary_opts))


def _told(parameter: Any) -> str:
    """Help, the values it takes, and its default."""
    parts = [marked(parameter.help or "")]
    choices = getattr(parameter.type, "choices", ())
    missing = [name for name in choices if not re.search(rf"\b{re.escape(name)}\b", parts[0])]
    if missing:
        parts.append(f"One of {', '.join(f'`{name}`' for name in choices)}.")
    low, high = (getattr(parameter.type, side, None) for side in ("min", "max"))
    if low is not None:
        least = "Above 0." if 0 < low < 1e-6 else f"At least {low}."
        parts.append(least if high is None else f"{low} to {high}.")
    default = parameter.default
    if default is True:
        parts.append("On by default.")
    elif default is not None and default is not False and default != "":
        parts.append(f"Default: `{default}`.")
    return " ".join(filter(None, parts)) or "See the preset."


def marked(text: str) -> str:
    """Words of the help as Markdown: options as code, nothing else taken for markup."""
    pieces = re.split(r"(`[^`]+`)", text)
    plain = (re.sub(r"([*_<>\[\]{}|])", r"\\\1", piece) for piece in pieces[::2])
    shown = [OPTION.sub(r"`\1`", piece) for piece in plain]
    return "".join(part for pair in zip(shown, [*pieces[1::2], ""], strict=True) for part in pair)


def escape(lines: list[str]) -> None:
    """Keep stars of a docstring, such as `(batch, *sides)`, from being taken for emphasis."""
    lines[:] = [re.sub(r"\*(?=\w)", r"\\*", line) for line in lines]


def tables() -> dict[str, str]:
    """Name → table for the pages: what `dinorad-rt list` shows on any machine, and docstrings."""
    import dinorad_rt.campaign.study
    import dinorad_rt.errors
    from dinorad_rt.cli import listing
    from dinorad_rt.metrics.specs import SPECS
    from dinorad_rt.protocols.registry import PROTOCOLS

    def tree_of(module: Any) -> str:
        return "\n".join(
            line[4:] for line in (module.__doc__ or "").splitlines() if line.startswith("    ")
        )

    found = {
        name: table(rows())
        for name, rows in listing._LISTERS.items()
        if name not in ("backends", "protocols")
    }
    for entry in PROTOCOLS.values():
        settings = entry.settings_class()
        about = dict([*_attributes(settings.__mro__[1]), *_attributes(settings)])
        preset = settings.preset("dinorad").as_dict()
        rows = [
            {"setting": f"`{name}`", "default": _value(value), "what it is": about[name]}
            for name, value in preset.items()
            if name != "preset_name"
        ]
        found[f"settings_{entry.name.replace('-', '_')}"] = table(rows)
    found |= {"functions": _documented(is_class=False), "classes": _documented(is_class=True)}
    found["metrics"] = table(
        {
            "name": f"`{name}`",
            "shown as": spec.title,
            "better": "lower" if spec.lower_is_better else "higher",
        }
        for name, spec in SPECS.items()
    )
    found["errors"] = f"```text\n{tree_of(dinorad_rt.errors)}\n```"
    return found


def _documented(*, is_class: bool) -> str:
    """Directives for the names of `dinorad_rt.api` that are classes, or are not."""
    from dinorad_rt import api

    lines = ["```{eval-rst}", ".. currentmodule:: dinorad_rt", ""]
    for name in api.__all__:
        found = getattr(api, name)
        if not isinstance(found, type):
            lines += [] if is_class else [f".. autofunction:: {name}"]
        elif is_class:
            own = "exception" if issubclass(found, Exception) else "class"
            lines += [f".. auto{own}:: {name}", *(["   :members:"] if own == "class" else [])]
    return "\n".join([*lines, "```"])


def _attributes(kind: type) -> Iterator[tuple[str, str]]:
    """Name and text of each attribute that a docstring explains."""
    _, _, listed = inspect.getdoc(kind).partition("Attributes:\n")  # type: ignore[union-attr]
    listed = listed.split("\n\n")[0]
    for part in re.split(r"\n(?=    \w)", "\n" + listed):
        names, _, text = part.strip().partition(": ")
        for name in names.split(", "):
            if text:
                yield name, marked(" ".join(text.split()))


def _value(value: object) -> str:
    if isinstance(value, (list, tuple)) and len(value) > 15:
        return f"{len(value)} values, {value[0]:g} to {value[-1]:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "by the data" if value is None else str(value)


def table(rows: Iterable[Mapping[str, str]]) -> str:
    """Rows as a table of Markdown."""
    rows = list(rows)
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads), *([row.get(head, "") for head in heads] for row in rows)]
    return "\n".join(f"| {' | '.join(_cell(text) for text in line)} |" for line in lines)


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", text)
