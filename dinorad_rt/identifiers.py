"""Whether names of files and patients may be said. By default they may not.

Paths of hospitals hold names of patients, and errors are pasted into chats and tickets. Messages
count what is wrong and name it only with `--keep-identifiers`; what the readers say of a path is
replaced by the option that it came from before the program prints it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from dinorad_rt.errors import DinoradError

_KEPT: ContextVar[bool] = ContextVar("identifiers_kept", default=False)
MAX_LISTED = 10
REASON_CHARACTERS = 300

_OURS = frozenset(
    "--out --weights --model --profile --backend --sheet --cache --checkpoint --ray --shard "
    "--set --setting --class --title".split()
)
"""Options that may be named: paths of this tool's own files, and what is no path, slash or not."""
_OUR_PATHS = ("--out", "--weights", "--checkpoint", "--sheet", "--cache")
"""Those of them that are paths, and stay named where they lie beside data."""
_VERBS_ON_RUNS = ("bundle", "compare", "report")
"""Verbs whose arguments are folders of runs, which this tool wrote and may name."""
_AFTER_PATH = re.compile(r"[.,:;)'\"]+(\s|$)")
_FILE_NAME = re.compile(r"((?![.:;]\s).)*?\.[A-Za-z]\w{1,6}(\.gz)?(?![\w/])")
_TELLING_SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".xlsx")
_PLAIN_STEMS = frozenset(
    "labels label train val valid validation test dataset data metadata splits annotations "
    "readme images masks results bench study train bundle predict graph engine provenance "
    "report predictions".split()
)


def are_kept() -> bool:
    """True where the user asked for names, with `--keep-identifiers`."""
    return _KEPT.get()


def keep(wanted: bool = True) -> None:
    """Decide for all further messages of this program whether they name files and patients."""
    _KEPT.set(wanted)


@contextmanager
def kept(wanted: bool = True) -> Iterator[None]:
    """Let messages inside the block name files and patients."""
    token = _KEPT.set(wanted)
    try:
        yield
    finally:
        _KEPT.reset(token)


def listed(names: Sequence[str]) -> str:
    """The first names, one a line, to follow a count; how to see them where they are not kept."""
    if not names:
        return ""
    if not are_kept():
        return " (--keep-identifiers names them)"
    shown = "".join(f"\n  {name}" for name in names[:MAX_LISTED])
    more = len(names) - MAX_LISTED
    return f":{shown}" + (f"\n  ... and {more} more" if more > 0 else "")


def without_paths(text: str, arguments: Sequence[str]) -> str:
    """A message without the paths of the user's data.

    Args:
        text: what is about to be printed.
        arguments: of the command line; the paths among them are what is looked for.

    Returns:
        The text, with a path below an argument as `(--data)/...`, the argument as `(--data)`.
    """
    if are_kept():
        return text
    ours: list[str] = []
    for form, label in _forms(arguments):
        if label is None:  # kept from the shorter forms that follow
            text = re.sub(rf"{re.escape(form)}(?![\w-])", f"\0{len(ours)}\0", text)
            ours.append(form)
        else:
            text = _replaced(text, form, label)
    for name in _table_names(arguments):
        text = text.replace(name, "the table")
    return re.sub("\0(\\d+)\0", lambda found: ours[int(found[1])], text)


def reason_of(error: BaseException, path: Path) -> str:
    """An error as the reason in a row: what was found and what to do about it, in one line.

    Args:
        error: any; its advice is that of a `DinoradError`.
        path: of the file that it is about, which may hold identifiers and is not named.
    """
    if not isinstance(error, DinoradError):
        return _one_line(f"{type(error).__name__}: {error}", path)
    problem, fix = _one_line(error.problem, path), _one_line(error.fix, path)
    if not fix:
        return problem
    return f"{problem}{'' if problem.endswith(('.', '!', '?')) else '.'} {fix}"


def _one_line(text: str, path: Path) -> str:
    """At most REASON_CHARACTERS of a text, without the path."""
    for form in dict.fromkeys((str(path), str(path.absolute()), str(path.resolve()))):
        text = text.replace(form, "the file")
    text = re.sub(r"the file/\S*[^\s.,:;)]", "a file in it", text)
    text = re.sub(r"<[\w.]+ object at 0x[0-9a-f]+>", "the file", text)
    if len(path.name) > 3:
        text = text.replace(path.name, "the file")
    return " ".join(text.split())[:REASON_CHARACTERS]


def _paths(arguments: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """(path, what to call it) of the arguments that are paths of data; None for our own."""
    option = ""
    of_runs = bool(arguments) and arguments[0] in _VERBS_ON_RUNS
    for argument in arguments:
        if argument.startswith("-"):
            option, _, value = argument.partition("=")
            if not value:
                continue
        else:
            value = argument
        label = f"({option})" if option.startswith("--") else "(the path)"
        if not option and of_runs:
            continue
        if option in _OUR_PATHS:
            yield value, None
        elif option not in _OURS and (os.sep in value or _exists(value)):
            yield value, label
        option = ""


def _forms(arguments: Sequence[str]) -> list[tuple[str, str | None]]:
    """Every spelling of the paths, the longest first, then the bare names of files."""
    forms: dict[str, str | None] = {}
    names: dict[str, str | None] = {}
    for value, label in sorted(_paths(arguments), key=lambda pair: pair[1] is None):
        path = Path(value).expanduser()
        for form in (value, str(path), os.path.abspath(path), os.path.realpath(path)):
            if len(form) > 1:
                forms.setdefault(form, label)
        if label is not None and not path.is_dir():
            if len(path.name) > 3:
                names.setdefault(path.name, label)
            for folder in (str(path.parent), os.path.abspath(path.parent)):
                if len(folder) > 1:
                    forms.setdefault(folder, f"(the folder of {label.strip('()')})")
    by_length = sorted(forms.items(), key=lambda item: -len(item[0]))
    return [*by_length, *names.items()]


def _replaced(text: str, form: str, label: str) -> str:
    """Replace a path and what follows of a longer one, however many blanks its names have."""
    done = ""
    word = form.isalpha() and form.islower()  # "data" as a path, and in a sentence
    while form in text:
        before, _, after = text.partition(form)
        if not after.startswith(os.sep):
            called = form if word and (done or before) else label
            done, text = f"{done}{before}{called}", after
            continue
        end = _end_of_path(form, after)
        done, text = f"{done}{before}{label}/...", after[end:]
    return done + text


def _end_of_path(form: str, after: str) -> int:
    """Length of the path that `after` goes on with.

    That is the longest beginning that exists, unless a name goes on behind it: then of what does
    not exist a file name with its suffix, blanks or not, or else one word.
    """
    line = after.partition("\n")[0]
    known = next((end for end in range(len(line), 1, -1) if _exists(form + line[:end])), 0)
    rest = line[known:]
    if known and (not rest or rest[0].isspace() or _AFTER_PATH.match(rest)):
        return known
    if name := _FILE_NAME.match(rest):
        return known + name.end()
    word = next((at for at, c in enumerate(rest) if c.isspace()), len(rest))
    return known + len(rest[:word].rstrip(".,:;)'\""))


def _table_names(arguments: Sequence[str]) -> list[str]:
    """Names of tables in the folders of data given, unless they are the usual ones."""
    found = []
    for value, label in _paths(arguments):
        folder = Path(value).expanduser()
        if label is None or not folder.is_dir():
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, suffix = os.path.splitext(entry.name.lower().removesuffix(".gz"))
                if suffix in _TELLING_SUFFIXES and stem not in _PLAIN_STEMS:
                    found.append(entry.name)
    return sorted(found, key=len, reverse=True)


def _exists(path: str) -> bool:
    try:
        return os.path.exists(path)
    except (OSError, ValueError):
        return False
