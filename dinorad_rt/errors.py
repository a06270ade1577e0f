"""Every error that dinorad-rt raises on purpose.

    DinoradError                      exit code 2: the user can mend it
    ├── UnknownNameError              a model, dataset, backend or preset that does not exist
    ├── MissingPackageError           an optional package is not installed
    ├── WeightsError
    │   ├── HubUnreachableError       the weights are not here and cannot be fetched
    │   └── CheckpointMismatchError   another architecture, or half a checkpoint
    ├── DataError
    │   ├── EmptyDataError            nothing to read, or nothing that could be read
    │   ├── TableError                a CSV without a needed column or with a bad value
    │   ├── LabelError                labels that no metric can use
    │   ├── LeakageError              a patient in two splits
    │   ├── MaskError                 a mask that does not lie on its image
    │   └── UnreadableFileError       one file that cannot be read; a row in the failures
    ├── OutputError
    │   ├── OutputExistsError         the output folder holds something else
    │   └── NoSpaceError              the disk is full
    ├── ExportError
    │   └── LintError                 a graph that backends would run badly
    ├── EngineError
    │   ├── BackendMissingError       the backend is not installed on this machine
    │   ├── BuildError                the backend refused the graph
    │   │   └── ProofError            the engine is not in the precision asked for
    │   ├── NoMemoryError             an engine does not fit into the memory that is free now
    │   └── CacheError                an engine on disk is not what its manifest says
    ├── ParityError                   the gate: numbers differ more than the recipe allows
    ├── TrainingError                 a job that cannot be trained as asked
    │   ├── DivergedError             the loss is no number any more
    │   ├── DeviceMemoryError         the device's memory is full
    │   └── RunError                  a run folder of something else, or not finished
    ├── BundleError                   no bundle, or one that was changed
    ├── StudyError                    a study file that is not valid
    ├── CellsFailedError              exit code 3: a study ran, but not all of its cells
    └── ProtocolError                 a protocol that does not fit the data

A message says what was being done, what was found, what is allowed, and ends in the
command or change that mends it. A bug of ours raises something else (AssertionError).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_USER_ERROR = 2
EXIT_CELLS_FAILED = 3


class DinoradError(Exception):
    """Base of all errors that a user can mend.

    Args:
        problem: what was being done and what was found, one or more sentences.
        fix: what to do about it, printed on a line of its own.
    """

    exit_code = EXIT_USER_ERROR

    def __init__(self, problem: str, fix: str = "") -> None:
        self.problem = problem
        self.fix = fix
        super().__init__(f"{problem}\n{fix}" if fix else problem)

    def __reduce__(self) -> tuple[type[DinoradError], tuple[str, str]]:
        """Errors cross process borders (decoding workers) without losing their parts."""
        return type(self), (self.problem, self.fix)


class UnknownNameError(DinoradError):
    """A name that is in no registry; built with `unknown_name`."""


class MissingPackageError(DinoradError):
    """An optional package is not installed; the fix is its install command."""


class WeightsError(DinoradError):
    """Weights cannot be used."""


class HubUnreachableError(WeightsError):
    """The weights are not on this machine and the hub does not answer."""


class CheckpointMismatchError(WeightsError):
    """A checkpoint does not fit the architecture: the message names the keys."""


class DataError(DinoradError):
    """The user's data cannot be used as asked."""


class EmptyDataError(DataError):
    """A folder or table without a single usable image; what was wrong with each is written."""


class TableError(DataError):
    """A table lacks a column or holds a value that cannot be read."""


class LabelError(DataError):
    """Labels that the task cannot use, such as one class only."""


class LeakageError(DataError):
    """A patient stands in more than one split."""


class MaskError(DataError):
    """A segmentation mask is missing, or has another shape or place than its image."""


class UnreadableFileError(DataError):
    """One file cannot be read. `embed` turns it into a row of failures.parquet."""


class NoImageError(UnreadableFileError):
    """A whole file of a kind that holds no image: a report, a plan, a structure set."""


class OutputError(DinoradError):
    """The output cannot be written."""


class OutputExistsError(OutputError):
    """The output folder holds something that dinorad-rt would overwrite or mix up."""


class NoSpaceError(OutputError):
    """The disk is full; nothing half-written was left behind."""


class ExportError(DinoradError):
    """A model cannot be exported."""


class LintError(ExportError):
    """The exported graph breaks a rule of its recipe."""


class EngineError(DinoradError):
    """An engine cannot be built, loaded or run."""


class BackendMissingError(EngineError):
    """The backend is not installed here; the fix is its install command."""


class BuildError(EngineError):
    """The backend refused to build the engine."""


class ProofError(BuildError):
    """An engine is not in the precision that was asked for."""


class NoMemoryError(EngineError):
    """An engine does not fit into the memory that is free now; the message says what does."""


class CacheError(EngineError):
    """A cached engine does not match its manifest."""


class ParityError(DinoradError):
    """Numbers of two forms of one model differ more than the recipe allows."""


class TrainingError(DinoradError):
    """A job cannot be trained as asked."""


class DivergedError(TrainingError):
    """The loss became NaN or infinite; the last good checkpoint was kept."""


class DeviceMemoryError(TrainingError):
    """A training step does not fit into memory; the message says what does."""


class RunError(TrainingError):
    """A run folder cannot be used: other data, other classes, damaged, or without a checkpoint."""


class BundleError(DinoradError):
    """A bundle cannot be used: it is none, of another format, or was changed."""


class StudyError(DinoradError):
    """A study file cannot be used: every problem is in the message."""


class CellsFailedError(DinoradError):
    """A study was run, but some of its cells failed; the others have results and a report."""

    exit_code = EXIT_CELLS_FAILED


class ProtocolError(DinoradError):
    """The protocol does not fit the data or its own settings."""


def unknown_name(kind: str, name: str, known: Iterable[str], listing: str) -> UnknownNameError:
    """Build the error for an unknown name, with the closest known ones.

    Args:
        kind: what was asked for, such as "model".
        name: the user's own spelling.
        known: every name that would have been right.
        listing: the command that lists them.
    """
    known = list(known)
    lowered = {entry.lower(): entry for entry in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=5, cutoff=0.5)
    near = f" Closest: {', '.join(lowered[entry] for entry in close)}." if close else ""
    return UnknownNameError(f"Unknown {kind} {name!r}.{near}", f"See all: {listing}")
