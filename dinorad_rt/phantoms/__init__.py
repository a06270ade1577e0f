"""Invented patients as true DICOM: the data that is always there, and the tests' data."""

from __future__ import annotations

from dinorad_rt.phantoms.write import PHANTOM_VERSION, write_phantoms

__all__ = ["PHANTOM_VERSION", "write_phantoms"]
