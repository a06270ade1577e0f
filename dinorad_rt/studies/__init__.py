"""Readers: DICOM, NIfTI, raster images, NumPy and MATLAB arrays → `Study`."""
