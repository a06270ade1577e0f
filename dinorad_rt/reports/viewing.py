"""Which images may be shown at all, and how a slice becomes a picture."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.errors import DinoradError
from dinorad_rt.reports.fonts import picture_font

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Sample
    from dinorad_rt.preprocessing.spec import PreprocessSpec
    from dinorad_rt.studies.study import Study

BURNED_IN = "burned-in annotation"
CAUTION = (
    "Images as the network saw them, scaled down, without names. Files without a DICOM header "
    "cannot say whether text is burned into the image: look at each before you share this page."
)


def shown_study(sample: Sample, *, burned_in: bool) -> Study | None:
    """The study of a sample in the order of its file, if it may be shown.

    Args:
        sample: to read.
        burned_in: also where the header says that text is burned into the image.

    Returns:
        None if it may not be shown, or cannot be read.
    """
    from dinorad_rt.studies.read import read_study

    try:
        study = read_study(sample.path, frame=sample.frame)
    except DinoradError:
        return None
    if any(BURNED_IN in text for text in study.problems) and not burned_in:
        return None
    return study


def seen_slice(study: Study, spec: PreprocessSpec) -> np.ndarray:
    """One slice at its own resolution with the grey values (windows) that the network sees.

    Args:
        study: one slice, as displayed.
        spec: of the network; its resize, crop and normalisation are left out.

    Returns:
        (height, width, 3) float32 in [0, 1].

    Raises:
        DataError: pixels that the preprocessing cannot take.
    """
    from dinorad_rt.preprocessing.geometry import geometry
    from dinorad_rt.preprocessing.pipeline import Preprocessor

    height, width = study.pixels.shape[1:3]
    plain = replace(
        spec,
        image_size=max(height, width),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        resize="pad",
        resize_to=None,
        crop="none",
        spacing=None,
    )
    plan = geometry(height, width, plain)
    top, left = plan.rows.offset, plan.columns.offset
    whole = Preprocessor(plain)(study)[:, top : top + height, left : left + width]
    picture: np.ndarray = np.clip(whole, 0, 1).transpose(1, 2, 0)
    return picture


def png_bytes(image: object) -> bytes:
    """The content of a PNG file, without any metadata, of a PIL image."""
    content = io.BytesIO()
    image.save(content, format="PNG", optimize=True)  # type: ignore[attr-defined]
    return content.getvalue()


def wrapped_words(text: str, width: int) -> list[str]:
    """Lines of whole words in `picture_font` of at most a width in pixels, where they can be."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and picture_font(text).getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
