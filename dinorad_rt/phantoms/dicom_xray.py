"""A chest X-ray as a CR or DX file."""

from __future__ import annotations

from pathlib import Path

from dinorad_rt.phantoms.part10 import Header, encoded, write_part10
from dinorad_rt.phantoms.tags import StudyFacts, code, common, decimals, instance, stored_bits
from dinorad_rt.phantoms.xray import BITS, XrayImage

_VIEWS = {
    "PA": ("399348003", "postero-anterior"),
    "AP": ("399067008", "antero-posterior"),
}


def write_xray(path: Path, image: XrayImage, facts: StudyFacts) -> None:
    """Write one X-ray; DX names a window, CR does so in every other study."""
    modality = "DX" if image.digital else "CR"
    header = common(facts, modality, 1) | stored_bits(BITS)
    header |= {
        "PhotometricInterpretation": "MONOCHROME1" if image.inverted else "MONOCHROME2",
        "BodyPartExamined": "CHEST",
        "ViewPosition": image.view,
        "SeriesDescription": f"CHEST {image.view}",
        "PatientOrientation": ["L", "F"],
        "KVP": "117",
        "ImagerPixelSpacing": decimals(image.pixel, image.pixel),
    }
    if image.digital:
        header |= _digital(image)
    if image.digital or facts.number % 2:
        header["WindowCenter"], header["WindowWidth"] = decimals(*image.window)
    write_part10(path, encoded(header), instance(facts, modality, 1), image.stored)


def _digital(image: XrayImage) -> Header:
    """What a DX image for presentation must say beyond CR (PS3.3 A.26, C.8.11)."""
    return {
        "PresentationIntentType": "FOR PRESENTATION",
        "ImageType": ["ORIGINAL", "PRIMARY", ""],
        "ImageLaterality": "U",
        "AnatomicRegionSequence": [code("51185008", "Chest")],
        "ViewCodeSequence": [code(*_VIEWS[image.view]) | {"ViewModifierCodeSequence": []}],
        "DetectorType": "DIRECT",
        "DetectorConfiguration": "AREA",
        "PixelSpacing": decimals(image.pixel, image.pixel),
        "PixelIntensityRelationship": "LOG",
        "PixelIntensityRelationshipSign": 1 if image.inverted else -1,
        "RescaleIntercept": "0",
        "RescaleSlope": "1",
        "RescaleType": "US",
        "PresentationLUTShape": "INVERSE" if image.inverted else "IDENTITY",
        "AcquisitionContextSequence": [],
        "PositionerType": "NONE",
    }
