"""One file becomes network input, or a reason why not. Runs in threads and in worker processes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from dinorad_rt.errors import MissingPackageError
from dinorad_rt.identifiers import reason_of
from dinorad_rt.preprocessing.pipeline import Preprocessor
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.studies.quiet import is_decoder_failure
from dinorad_rt.studies.read import read_study
from dinorad_rt.studies.study import Study

WITHOUT_NUMBERS = "no pixel is a finite number"


@dataclass(frozen=True)
class Image:
    """A single image, preprocessed: (3, size, size) float32, and its pseudonymous keys."""

    pixels: np.ndarray
    study: str | None = None
    series: str | None = None


@dataclass(frozen=True)
class Volume:
    """A study of several slices, still to be preprocessed slice by slice."""

    study: Study


@dataclass(frozen=True)
class Bad:
    """What cannot be embedded, and why, free of paths."""

    reason: str


Loaded: TypeAlias = Image | Volume | Bad


class Decoder:
    """Reads and preprocesses. Safe to call from many threads at once."""

    def __init__(self, spec: PreprocessSpec) -> None:
        """Take the preprocessing that every image gets."""
        self._preprocess = Preprocessor(spec)

    def load(self, path: Path, frame: int | None = None) -> Loaded:
        """Read a file; preprocess it if it is one slice.

        Args:
            path: anything that `read_study` takes.
            frame: only this frame or slice; None for all.

        Raises:
            MissingPackageError: the user can mend it for all files alike, so it ends the job.
        """
        try:
            study = read_study(path, frame=frame).displayed()
        except MissingPackageError:
            raise
        except BaseException as error:
            if not is_decoder_failure(error):
                raise
            return Bad(reason_of(error, path))
        if is_without_numbers(study.pixels):
            return Bad(WITHOUT_NUMBERS)
        if study.num_slices > 1:
            return Volume(study)
        return self.image(study, path)

    def image(self, study: Study, path: Path) -> Image | Bad:
        """Preprocess a one-slice study."""
        try:
            pixels = self._preprocess(study)
        except MissingPackageError:
            raise
        except Exception as error:  # one strange image must not end a job of a million
            return Bad(reason_of(error, path))
        if not math.isfinite(float(pixels.sum())) and not np.isfinite(pixels).all():
            return Bad("the pixels are NaN or infinite after preprocessing")
        return Image(pixels, study.study, study.series)


def is_without_numbers(pixels: np.ndarray) -> bool:
    """True if all values are NaN or infinite; looked at in full only where the first one is."""
    if pixels.dtype.kind != "f" or math.isfinite(float(pixels.flat[0])):
        return False
    return not any(np.isfinite(part).any() for part in pixels)
