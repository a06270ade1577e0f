"""DICOM headers of the phantoms: complete, lawful, and full of invented identifiers.

Names, dates and places are made up and recognisable (`PHANTOM`), so that a test can prove that
none of them reaches a store, a log or a report. Attributes follow the IODs of PS3.3 A.2 (CR),
A.26 (DX), A.3 (CT) and A.4 (MR).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from dinorad_rt.phantoms.part10 import Header
from dinorad_rt.phantoms.plan import Patient

SOP_CLASSES = {
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
}

_DATED = ("Study", "Series", "Acquisition", "Content")

_GIVEN = {
    True: ("ADA", "BERTHA", "CLARA", "DORA", "EMMA", "FRIDA", "GRETA", "HEDWIG"),
    False: ("ALBERT", "BRUNO", "CASPAR", "DAVID", "EMIL", "FELIX", "GEORG", "HUGO"),
}


@dataclass(frozen=True)
class StudyFacts:
    """Who and when: what all images of one study share.

    Attributes:
        patient: the patient.
        number: of the study, from 1.
        seed: of the data set.
    """

    patient: Patient
    number: int
    seed: int

    def uid(self, *name: object) -> str:
        """A UID that depends on the seed, the patient and the name, on nothing else."""
        return uid(self.seed, self.patient.number, *name)

    @property
    def date(self) -> str:
        """Invented date of the study, YYYYMMDD; follow-ups come later."""
        months = 7 * self.patient.number + 4 * self.number
        day = 1 + (11 * self.patient.number + 5 * self.number) % 28
        return f"{1998 + months // 12 % 12}{1 + months % 12:02d}{day:02d}"


def uid(*name: object) -> str:
    """A UID below 2.25 (PS3.5 B.2) from the hash of a name."""
    digest = hashlib.sha256("\x1f".join(map(str, name)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big') | 1 << 127}"


def common(facts: StudyFacts, modality: str, series: int) -> Header:
    """Patient, study, series, equipment and image modules of any image of a series."""
    patient = facts.patient
    given = _GIVEN[patient.female]
    times = {f"{what}Date": facts.date for what in _DATED}
    clock = {f"{what}Time": f"101{5 + i}00" for i, what in enumerate(_DATED)}
    return {
        **times,
        **clock,
        "SpecificCharacterSet": "ISO_IR 100",
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "SOPClassUID": SOP_CLASSES[modality],
        "AccessionNumber": f"PHA{patient.number:05d}{facts.number:02d}",
        "Modality": modality,
        "Manufacturer": "PHANTOM WORKS",
        "InstitutionName": "PHANTOM GENERAL HOSPITAL",
        "ReferringPhysicianName": "PHANTOM^REFERRER",
        "StationName": f"PHANTOM{modality}",
        "StudyDescription": "PHANTOM STUDY",
        "ManufacturerModelName": "PHANTOM 1",
        "PatientName": f"PHANTOM^{given[patient.number % len(given)]}^{patient.number:03d}",
        "PatientID": f"PHANTOM-{patient.number:04d}",
        "PatientBirthDate": f"{patient.birth_year}0{1 + patient.number % 9}17",
        "PatientSex": "F" if patient.female else "M",
        "PatientAge": f"{int(facts.date[:4]) - patient.birth_year:03d}Y",
        "DeviceSerialNumber": "PHANTOM-1",
        "SoftwareVersions": "1",
        "StudyInstanceUID": facts.uid("study", facts.number),
        "SeriesInstanceUID": facts.uid("series", facts.number, modality, series),
        "StudyID": f"PHS{facts.number}",
        "SeriesNumber": str(series),
        "AcquisitionNumber": "1",
        "BurnedInAnnotation": "NO",
        "LossyImageCompression": "00",
        "PhotometricInterpretation": "MONOCHROME2",
    }


def instance(facts: StudyFacts, modality: str, number: int) -> Header:
    """What tells one image from the others of its study and modality."""
    return {
        "SOPInstanceUID": facts.uid("image", facts.number, modality, number),
        "InstanceNumber": str(number),
    }


def stored_bits(bits: int) -> Header:
    """How many of the 16 allocated bits are used."""
    return {"BitsStored": bits, "HighBit": bits - 1}


def decimal(value: float) -> str:
    """A decimal string of at most 16 characters (PS3.5 6.2, DS)."""
    text = f"{value:.10g}"
    return text if len(text) <= 16 else f"{value:.8g}"


def decimals(*values: float) -> list[str]:
    """Several decimal strings."""
    return [decimal(value) for value in values]


def code(value: str, meaning: str) -> Header:
    """A concept of SNOMED CT."""
    return {"CodeValue": value, "CodingSchemeDesignator": "SCT", "CodeMeaning": meaning}
