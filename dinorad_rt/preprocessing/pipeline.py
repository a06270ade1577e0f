"""`Preprocessor`: one slice of a study → one row of the network's input."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from dinorad_rt.errors import DataError
from dinorad_rt.preprocessing import cuda, native, reference
from dinorad_rt.preprocessing.body import body_box
from dinorad_rt.preprocessing.geometry import Geometry, geometry
from dinorad_rt.preprocessing.intensity import grey_map, rule_of
from dinorad_rt.preprocessing.spec import PreprocessSpec

if TYPE_CHECKING:
    from dinorad_rt.studies.study import Study

Implementation = Literal["auto", "native", "reference", "cuda"]
Channel: TypeAlias = tuple[np.ndarray, PreprocessSpec]
"""Stored values of one channel or of all, and the spec whose window applies to them."""


class Preprocessor:
    """Carries out a `PreprocessSpec`. Safe to call from many threads at once.

    Attributes:
        spec: what is done.
        implementation: `native`, `reference` or `cuda`, whichever runs.
    """

    def __init__(
        self, spec: PreprocessSpec, *, implementation: Implementation = "auto", threads: int = 1
    ) -> None:
        """Check the spec and choose the implementation.

        Args:
            spec: what to do.
            implementation: `auto` takes the native kernel where it is installed; `cuda` writes
                into GPU memory, with `into` only.
            threads: of the native kernel for one image; the numbers do not depend on it.

        Raises:
            DataError: the spec contradicts itself.
            MissingPackageError: `native` or `cuda` was asked for and is not there.
        """
        _check(spec)
        if implementation == "native":
            native.require()
        elif implementation == "cuda":
            cuda.require()
        elif implementation == "auto":
            implementation = "native" if native.is_available() else "reference"
        self.spec = spec
        self.implementation: Literal["native", "reference", "cuda"] = implementation
        self._threads = threads
        self._windowed = tuple(
            replace(spec, window=window, windows=(), intensity="window") for window in spec.windows
        )

    def __call__(self, study: Study) -> np.ndarray:
        """Preprocess a one-slice study.

        Returns:
            (3, size, size) float32, normalised.

        Raises:
            DataError: more than one slice, no pixels, or values that are not real numbers.
        """
        row = np.empty((3, self.spec.image_size, self.spec.image_size), np.float32)
        self.into(study, row)
        return row

    def into(self, study: Study, out: Any, *, stream: int = 0) -> None:
        """Preprocess a one-slice study into a row of a batch.

        Args:
            study: one slice.
            out: (3, size, size), C-contiguous; an array of float32, float16, or uint16 for the
                bits of bfloat16. For `cuda`, a row of the engine's input on the GPU: a torch
                tensor of float32, float16 or bfloat16, or anything else with DLPack.
            stream: CUDA stream handle on which the work is enqueued, for `cuda`.

        Raises:
            DataError: as `__call__`, or a buffer of another shape or type.
        """
        if self.implementation != "cuda":
            _check_buffer(out, self.spec.image_size)
        else:
            _check_device_buffer(out, self.spec.image_size)
        pixels = _one_slice(study)
        if self.spec.crop == "body":
            pixels = pixels[body_box(study)]
        channels = self._channels(study, pixels)
        spacing = None if study.spacing is None else study.spacing[1:]
        plan = geometry(pixels.shape[0], pixels.shape[1], self.spec, spacing)
        if self.implementation == "reference":
            self._reference(study, channels, plan, out)
        elif self.implementation == "native":
            self._fast(
                study, channels, plan, out, partial(native.preprocess, threads=self._threads)
            )
        else:
            self._fast(study, channels, plan, out, partial(cuda.preprocess, stream=stream))

    def _channels(self, study: Study, pixels: np.ndarray) -> list[Channel]:
        """One image for all channels, or one for each (colour that stays, several windows)."""
        if not pixels.dtype.isnative:
            pixels = pixels.astype(pixels.dtype.newbyteorder("="))
        if pixels.ndim == 3 and self.spec.channels == "rgb":
            return [(pixels[..., index], self.spec) for index in range(3)]
        by_window = study.units == "HU" or self.spec.intensity == "window"
        if by_window and pixels.ndim == 2 and rule_of(study, self.spec) == "window":
            return [(pixels, one) for one in self._windowed or (self.spec,)]
        return [(pixels, self.spec)]

    def _reference(
        self, study: Study, channels: list[Channel], plan: Geometry, out: np.ndarray
    ) -> None:
        statistics = reference.ReferenceStatistics()
        grey = []
        for pixels, spec in channels:
            flat = reference.luma(pixels) if pixels.ndim == 3 else pixels
            mapped, mapping = grey_map(study, flat, spec, statistics)
            grey.append(reference.channel(mapped, mapping, plan))
        store(reference.normalise(np.stack(grey), self.spec.mean, self.spec.std), out)

    def _fast(
        self,
        study: Study,
        channels: list[Channel],
        plan: Geometry,
        out: Any,
        run: Callable[..., None],
    ) -> None:
        """The compiled kernel: `native.preprocess`, or the same on a GPU."""
        statistics = native.NativeStatistics()
        size = 3 // len(channels)
        in_kernel = study.pixels.dtype == np.uint8 and rule_of(study, self.spec) == "range"
        for index, (pixels, spec) in enumerate(channels):
            part = slice(index * size, (index + 1) * size)
            if pixels.ndim == 3 and not in_kernel:
                pixels = reference.luma(pixels)
            mapped, mapping = grey_map(study, pixels, spec, statistics)
            mean, std = tuple(self.spec.mean)[part], tuple(self.spec.std)[part]
            run(mapped, mapping, plan, out[part], (mean, std))


def store(image: np.ndarray, out: np.ndarray) -> None:
    """Write float32 values into a float32, float16 or bfloat16-bits buffer, rounding to nearest."""
    if out.dtype == np.uint16:
        bits = image.view(np.uint32)
        out[...] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    else:
        out[...] = image


def _one_slice(study: Study) -> np.ndarray:
    """Pixels of the only slice: (height, width) or (height, width, 3)."""
    pixels = study.pixels
    if pixels.ndim not in (3, 4) or pixels.shape[0] != 1 or 0 in pixels.shape:
        raise DataError(
            f"Preprocessing takes one slice, (1, height, width) or (1, height, width, 3); got "
            f"{pixels.shape}.",
            "Take one slice of a volume with study.slice(index).",
        )
    if pixels.ndim == 4 and pixels.shape[3] != 3:
        raise DataError(f"A colour image has 3 channels; got {pixels.shape[3]}.")
    if pixels.dtype.kind not in "biuf":
        raise DataError(f"Pixels must be real numbers; got {pixels.dtype}.")
    if not all(map(math.isfinite, study.rescale)):
        raise DataError(f"Rescale slope and intercept must be finite; got {study.rescale}.")
    only: np.ndarray = pixels[0]
    return only


def _check(spec: PreprocessSpec) -> None:
    size, resized = spec.image_size, spec.resize_to
    if size < 1 or (resized is not None and resized < size):
        raise DataError(
            f"PreprocessSpec: image_size {size}, resize_to {resized}; allowed: image_size >= 1 "
            "and resize_to >= image_size."
        )
    low, high = spec.percentiles
    if not 0.0 <= low < high <= 100.0:
        raise DataError(
            f"PreprocessSpec: percentiles {spec.percentiles}; allowed: 0 <= low < high <= 100."
        )
    for window in (spec.window, *spec.windows):
        if window is not None and not (all(map(math.isfinite, window)) and window[1] > 0):
            raise DataError(
                f"PreprocessSpec: window {window}; allowed: finite (centre, width), width > 0."
            )
    if len(spec.windows) not in (0, 3):
        raise DataError(
            f"PreprocessSpec: {len(spec.windows)} windows; allowed: one per channel, 3."
        )
    if (spec.resize == "spacing") != (spec.spacing is not None) or (
        spec.spacing is not None and not 0 < spec.spacing < math.inf
    ):
        raise DataError(
            f"PreprocessSpec: resize {spec.resize}, spacing {spec.spacing}; allowed: a positive "
            "spacing with resize 'spacing' only."
        )
    if not all(value > 0 for value in spec.std):
        raise DataError(f"PreprocessSpec: std {spec.std}; allowed: > 0.")


def _check_device_buffer(out: Any, size: int) -> None:
    on_gpu = not isinstance(out, np.ndarray) and hasattr(out, "__dlpack_device__")
    if not on_gpu or tuple(out.shape) != (3, size, size):
        raise DataError(
            f"The CUDA kernel writes into a (3, {size}, {size}) buffer in GPU memory; got "
            f"{type(out).__name__} of shape {tuple(out.shape)}.",
            "Call into(study, batch[row]) with a batch on the GPU; implementation='native' writes "
            "into arrays.",
        )


def _check_buffer(out: np.ndarray, size: int) -> None:
    fits = out.shape == (3, size, size) and out.flags.c_contiguous and out.flags.writeable
    if not fits or out.dtype not in (np.float32, np.float16, np.uint16):
        raise DataError(
            f"The buffer must be a writeable C-contiguous (3, {size}, {size}) array of float32, "
            f"float16 or uint16 (bits of bfloat16); got {out.shape} {out.dtype}."
        )
