"""Which DICOM transfer syntaxes can be decoded here, and what would add the others."""

from __future__ import annotations

from dataclasses import dataclass

from dinorad_rt.optional import require

_SYNTAXES = {
    "JPEG baseline": ("JPEGBaseline8Bit", "pylibjpeg pylibjpeg-libjpeg"),
    "JPEG extended": ("JPEGExtended12Bit", "pylibjpeg pylibjpeg-libjpeg"),
    "JPEG lossless": ("JPEGLosslessSV1", "pylibjpeg pylibjpeg-libjpeg"),
    "JPEG-LS": ("JPEGLSLossless", "pyjpegls"),
    "JPEG 2000": ("JPEG2000Lossless", "pylibjpeg pylibjpeg-openjpeg"),
    "HTJ2K": ("HTJ2KLossless", "pylibjpeg pylibjpeg-openjpeg"),
    "RLE": ("RLELossless", "pylibjpeg pylibjpeg-rle"),
}


@dataclass(frozen=True)
class DecoderState:
    """One family of transfer syntaxes.

    Attributes:
        name: for people.
        plugins: pydicom's names of what can decode it here; empty if nothing can.
        install: command that would add a decoder.
    """

    name: str
    plugins: tuple[str, ...]
    install: str


def decoder_states() -> tuple[DecoderState, ...]:
    """The compressed syntaxes that maintained decoders read, and what is installed for each."""
    uid = require("pydicom.uid", "reading DICOM")
    get_decoder = require("pydicom.pixels", "reading DICOM").get_decoder

    return tuple(
        DecoderState(
            name,
            tuple(get_decoder(getattr(uid, keyword)).available_plugins),
            f"pip install {packages}",
        )
        for name, (keyword, packages) in _SYNTAXES.items()
    )
