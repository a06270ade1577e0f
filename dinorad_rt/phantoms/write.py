"""`write_phantoms`: the whole data set, file by file, then its tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dinorad_rt.errors import OutputExistsError
from dinorad_rt.files import atomic_path, claim_output_dir, space_errors_named
from dinorad_rt.phantoms.plan import CT_CLASSES, Patient, plan_patients
from dinorad_rt.phantoms.tags import StudyFacts
from dinorad_rt.phantoms.xray_findings import XRAY_KINDS
from dinorad_rt.progress import Say

PHANTOM_VERSION = 2
"""Grows whenever the same seed gives other bytes."""

MARKER = "phantom.json"
CT_SLICES, MR_SLICES = 9, 6
DEFAULT_SIZE = 236

Row = dict[str, object]


@dataclass(frozen=True)
class Job:
    """What is to be written where.

    Attributes:
        out: top folder.
        size: rows of an X-ray, pixels.
        seed: decides everything drawn.
        rows: table → its rows so far.
    """

    out: Path
    size: int
    seed: int
    rows: dict[str, list[Row]] = field(
        default_factory=lambda: {"top": [], "xray": [], "ct": [], "slices": [], "mr": []}
    )


def write_phantoms(
    out: Path,
    *,
    patients: int = 96,
    seed: int = 0,
    image_size: int = DEFAULT_SIZE,
    progress: Say | None = None,
) -> Path:
    """Write invented patients as true DICOM, with masks and tables of labels.

    `out/labels.csv` is the default task: chest X-ray, normal or abnormal. `out/xray`, `out/ct` and
    `out/mr` hold a table of their own: findings (multi-label), classes of volumes (multi-class),
    tumour in a slice (binary). `ct/slices.csv` labels each CT slice. All splits are by patient.

    Args:
        out: new or empty folder, or one of an earlier call of the same kind, begun or finished.
        patients: number of patients, at least 4.
        seed: the same seed gives the same bytes.
        image_size: rows of an X-ray, 64 or more; CT has half, MR 7/16 of it.
        progress: called with a line of text per patient.

    Returns:
        `out`.

    Raises:
        DataError: too few patients, or images too small.
        OutputExistsError: `out` holds something else.
    """
    plan = plan_patients(patients, seed, image_size)
    out = claim_output_dir(Path(out), MARKER)
    facts = {"version": PHANTOM_VERSION, "patients": patients, "seed": seed, "size": image_size}
    with space_errors_named(out):
        _claim(out / MARKER, json.dumps(facts) + "\n")
        job = Job(out, image_size, seed)
        for done, patient in enumerate(plan, start=1):
            _write_patient(job, patient)
            if progress is not None:
                progress(f"phantoms: patient {done} of {patients}")
        _write_tables(job)
    return out


def _claim(marker: Path, facts: str) -> None:
    """Say what the folder will hold, unless it holds phantoms of another kind."""
    if marker.exists() and marker.read_text(encoding="utf-8") != facts:
        raise OutputExistsError(
            f"{marker.parent} holds other phantoms: another seed, number, size or version.",
            "Choose an empty or new folder.",
        )
    marker.write_text(facts, encoding="utf-8")


def _write_patient(job: Job, patient: Patient) -> None:
    _write_xrays(job, patient)
    if patient.ct is not None:
        _write_ct(job, patient)
    for number, tumour in enumerate(patient.mr, start=1):
        _write_mr(job, patient, number, tumour)


def _write_xrays(job: Job, patient: Patient) -> None:
    from dinorad_rt.phantoms.chest import chest_of
    from dinorad_rt.phantoms.dicom_xray import write_xray
    from dinorad_rt.phantoms.draws import Draws
    from dinorad_rt.phantoms.masks import write_png
    from dinorad_rt.phantoms.xray import expose
    from dinorad_rt.phantoms.xray_findings import finding_of

    chest = chest_of(Draws(job.seed, "patient", patient.number), patient.female)
    course = Draws(job.seed, "course", patient.number)
    known = {
        kind: finding_of(kind, chest, Draws(job.seed, "finding", patient.number, kind))
        for kind in XRAY_KINDS
    }
    for number, kinds in enumerate(patient.xrays, start=1):
        change = course.uniform(-0.25, 0.25) * (number - 1)
        findings = [known[kind].grown(change) for kind in kinds]
        image = expose(chest, findings, job.size, (patient.number, number), job.seed)
        folder = _folder(job, "xray", patient, number)
        facts = StudyFacts(patient, number, job.seed)
        write_xray(folder / "image.dcm", image, facts)
        write_png(folder / "mask.png", image.mask)
        shared = _shared(patient, number, "DX" if image.digital else "CR")
        ill = bool(kinds)
        _add(
            job,
            "xray",
            (folder / "image.dcm", folder / "mask.png"),
            shared | {kind: int(kind in kinds) for kind in XRAY_KINDS},
        )
        label = {"label": int(ill), "class": "abnormal" if ill else "normal"}
        _add(job, "top", (folder / "image.dcm", folder / "mask.png"), label | shared)


def _write_ct(job: Job, patient: Patient) -> None:
    from dinorad_rt.phantoms.ct import FINDING, scan
    from dinorad_rt.phantoms.dicom_slices import write_ct
    from dinorad_rt.phantoms.masks import write_nifti

    assert patient.ct is not None
    volume = scan(patient.ct, job.size // 2, CT_SLICES, (patient.number, 1), job.seed)
    folder = _folder(job, "ct", patient, 1)
    series = folder / patient.ct.region
    series.mkdir(exist_ok=True)
    names = write_ct(series, volume, patient.ct.region, StudyFacts(patient, 1, job.seed))
    mask = folder / "mask.nii.gz"
    write_nifti(mask, volume.mask, volume.spacing, volume.origin)
    shared = _shared(patient, 1, "CT") | {"region": patient.ct.region}
    label: Row = {"label": CT_CLASSES.index(patient.ct.label), "class": patient.ct.label}
    _add(job, "ct", (series, mask), label | shared)
    for index, name in enumerate(names):
        seen = int((volume.mask[index] == FINDING).sum() >= 4)
        label = {"label": seen, "class": "finding" if seen else "normal"}
        _add(job, "slices", (series / name, None), label | shared)


def _write_mr(job: Job, patient: Patient, number: int, tumour: bool) -> None:
    from dinorad_rt.phantoms.dicom_slices import write_mr
    from dinorad_rt.phantoms.masks import write_png
    from dinorad_rt.phantoms.mr import acquire

    volume = acquire(tumour, job.size * 7 // 16, MR_SLICES, (patient.number, number), job.seed)
    folder = _folder(job, "mr", patient, number)
    names = write_mr(folder, volume, StudyFacts(patient, number, job.seed))
    for index, labels in enumerate(volume.mask):
        mask = folder / f"mask{index + 1:03d}.png"
        write_png(mask, labels)
        seen = int((labels >= 3).sum() >= 4)
        label = {"label": seen, "class": "tumour" if seen else "normal"}
        shared = _shared(patient, number, "MR") | {"weighting": volume.weighting}
        _add(job, "mr", (folder / names[index], mask), label | shared)


def _folder(job: Job, kind: str, patient: Patient, study: int) -> Path:
    folder = job.out / kind / patient.key / f"s{study}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _shared(patient: Patient, study: int, modality: str) -> Row:
    return {
        "patient": patient.key,
        "study": f"{patient.key}s{study}",
        "modality": modality,
        "split": patient.split,
    }


def _add(job: Job, table: str, files: tuple[Path, Path | None], values: Row) -> None:
    """Add a row with paths relative to the folder that holds the table."""
    root = job.out if table == "top" else job.out / _TABLES[table][0]
    image, mask = files
    row: Row = {"image": image.relative_to(root).as_posix(), **values}
    if mask is not None:
        row["mask"] = mask.relative_to(root).as_posix()
    job.rows[table].append(row)


_TABLES = {
    "xray": ("xray", "labels.csv"),
    "ct": ("ct", "labels.csv"),
    "slices": ("ct", "slices.csv"),
    "mr": ("mr", "labels.csv"),
    "top": ("", "labels.csv"),
}
"""Table → folder and file; the top one comes last: it says that all is there."""


def _write_tables(job: Job) -> None:
    from dinorad_rt.phantoms.ct import CT_MASKS
    from dinorad_rt.phantoms.mr import MR_MASK
    from dinorad_rt.phantoms.readme import README
    from dinorad_rt.phantoms.xray import XRAY_MASK

    names = {"xray": XRAY_MASK, "mr": MR_MASK, "ct": CT_MASKS}
    (job.out / "masks.json").write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")
    (job.out / "README.md").write_text(README, encoding="utf-8")
    for table, (folder, name) in _TABLES.items():
        if job.rows[table]:
            _write_csv(job.out / folder / name, job.rows[table])


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
