"""The registered datasets as data: official layouts, classes, counts, licences, split rules.

Counts of the study's sets are those of its code (shared PROTOCOLS, section 1); of the others those
that their publishers state. An MD5 stands here only where the publisher, or MONAI for the
Decathlon, gives one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from dinorad_rt.datasets.entry import DatasetEntry
from dinorad_rt.datasets.layouts import lungs, nodules, slices, volumes, xrays
from dinorad_rt.datasets.layouts.medmnist import (
    SOURCE,
    archive_name,
    medmnist,
    medmnist_sets,
)

_SORTED = "names sorted, numbers by value; the study took the order of os.listdir"
_SLICES_LEAK = "none: volumes are drawn, not slices, so that all slices of one lie in one split"
_DECATHLON_URL = "http://medicaldecathlon.com"
_CHEXPERT_TREE = (
    "CheXpert-v1.0[-small]/{train.csv, valid.csv, train/patient*/study*/view*_frontal.jpg, "
    "valid/..., [test.csv, test/...]}"
)

STUDY: tuple[DatasetEntry, ...] = (
    DatasetEntry(
        name="nih-chestxray14",
        title="NIH ChestX-ray14, 14 findings and No Finding",
        modality="X-ray",
        task="multilabel",
        licence="free, with attribution",
        url="https://nihcc.app.box.com/v/ChestXray-NIHCC",
        classes=tuple(xrays.NIH_FINDINGS),
        counts={"train": 76_522, "val": 10_002, "test": 25_596},
        rule="official test list; the last 10,002 rows of train_val_list.txt are val",
        leak="the official test list is by patient; the cut of val is by row and is checked",
        tree="Data_Entry_2017.csv, train_val_list.txt, test_list.txt, images_001/images/*.png, ...",
        layout=xrays.nih,
        study=True,
    ),
    DatasetEntry(
        name="chexpert",
        title="CheXpert, frontal, 5 findings and Uncertain (U-Zeros with a flag)",
        modality="X-ray",
        task="multilabel",
        licence="Stanford research use",
        url="https://stanfordmlgroup.github.io/competitions/chexpert/",
        classes=(*xrays.CHEXPERT_FINDINGS, "Uncertain"),
        counts={"train": 191_027, "val": 202, "test": 518},
        rule="official train, valid and test tables, frontal views",
        tree=_CHEXPERT_TREE,
        layout=xrays.chexpert,
        study=True,
    ),
    DatasetEntry(
        name="sars-cov-2-ct",
        title="SARS-CoV-2 CT, a folder of slices per patient",
        modality="CT",
        task="binary",
        licence="see its Kaggle page",
        url="https://www.kaggle.com/plameneduardo/a-covid-multiclass-dataset-of-ct-scans",
        classes=("no COVID-19", "COVID-19"),
        counts={"train": 90, "val": 50, "test": 70},
        unit="patient",
        rule=f"Covid, Healthy, Others in this order; every third test, then 50 val; {_SORTED}",
        tree="{Covid, Healthy, Others}/PATIENT/*.png",
        layout=slices.sars_cov_2,
        study=True,
    ),
    DatasetEntry(
        name="brain-tumor",
        title="Brain Tumor of figshare, T1 with contrast, three kinds",
        modality="MR",
        task="multiclass",
        licence="CC BY 4.0",
        url="https://figshare.com/articles/dataset/brain_tumor_dataset/1512427",
        classes=slices.TUMOURS,
        counts={"train": 1_344, "val": 718, "test": 1_002},
        unit="slice",
        rule=f"by cjdata/PID: 70 patients test, then 50 val, evenly spaced; {_SORTED}",
        tree="1.mat ... 3064.mat (or brainTumorDataPublic_*/), cvind.mat",
        layout=slices.brain_tumor,
        study=True,
    ),
    DatasetEntry(
        name="montgomery",
        title="Montgomery County chest X-rays, left and right lung (or TB)",
        modality="X-ray",
        task="segmentation",
        licence="free for research, with attribution",
        url="https://lhncbc.nlm.nih.gov/LHC-downloads/downloads.html",
        classes=lungs.LUNGS,
        counts={"train": 69, "val": 23, "test": 46},
        rule=f"every third image test, then every fourth val; {_SORTED}",
        leak="none known: one image per patient",
        tree="MontgomerySet/{CXR_png, ManualMask/{leftMask, rightMask}, ClinicalReadings}",
        layout=lungs.montgomery,
        study=True,
    ),
    DatasetEntry(
        name="shenzhen",
        title="Shenzhen chest X-rays, lungs (or TB)",
        modality="X-ray",
        task="segmentation",
        licence="free for research, with attribution",
        url="https://lhncbc.nlm.nih.gov/LHC-downloads/downloads.html",
        classes=lungs.LUNG,
        counts={"train": 361, "val": 91, "test": 114},
        rule=f"images with a mask: every fifth test, then every fifth val; {_SORTED}",
        leak="none known: one image per patient",
        tree="ChinaSet_AllFiles/{CXR_png, ClinicalReadings}, mask/CHNCXR_*_mask.png",
        layout=lungs.shenzhen,
        study=True,
    ),
    DatasetEntry(
        name="amos22",
        title="AMOS22, labelled CT, 15 abdominal organs",
        modality="CT",
        task="segmentation",
        licence="CC BY 4.0",
        url="https://zenodo.org/records/7262581",
        classes=volumes.AMOS_ORGANS,
        counts={"train": 11_350, "val": 2_770, "test": 7_004},
        unit="slice",
        rule=f"of 300 labelled CT 80 train, then 20 val, then 50 test, evenly spaced; {_SORTED}",
        leak=_SLICES_LEAK,
        tree="amos22/{dataset.json, imagesTr, labelsTr, imagesVa, labelsVa, imagesTs}",
        layout=volumes.amos,
        study=True,
    ),
    DatasetEntry(
        name="msd-heart",
        title="Decathlon Task02, left atrium",
        modality="MR",
        task="segmentation",
        licence="CC BY-SA 4.0",
        url=_DECATHLON_URL,
        classes=volumes.HEART.classes,
        counts={"train": 1_339, "val": 450, "test": 482},
        unit="slice",
        rule="the study gives lengths, no rule: of 20 volumes 4 test, then 4 val, evenly spaced, "
        f"the only whole numbers near its lengths; {_SORTED}",
        leak=_SLICES_LEAK,
        files={"Task02_Heart.tar": "06ee59366e1e5124267b774dbd654057"},
        tree="Task02_Heart/{dataset.json, imagesTr, labelsTr, imagesTs}",
        layout=partial(volumes.decathlon, of=volumes.HEART),
        study=True,
    ),
    DatasetEntry(
        name="msd-hippocampus",
        title="Decathlon Task04, anterior and posterior hippocampus",
        modality="MR",
        task="segmentation",
        licence="CC BY-SA 4.0",
        url=_DECATHLON_URL,
        classes=volumes.HIPPOCAMPUS.classes,
        counts={"train": 4_230, "val": 2_165, "test": 2_875},
        unit="slice",
        rule=f"80 volumes test, then 60 val, evenly spaced; {_SORTED}",
        leak="not excluded: the Decathlon does not tell which volumes come from one subject, so "
        "each volume counts as one",
        files={"Task04_Hippocampus.tar": "9d24dba78a72977dbd1d2e110310f31b"},
        tree="Task04_Hippocampus/{dataset.json, imagesTr, labelsTr, imagesTs}",
        layout=partial(volumes.decathlon, of=volumes.HIPPOCAMPUS),
        study=True,
    ),
    DatasetEntry(
        name="msd-spleen",
        title="Decathlon Task09, spleen",
        modality="CT",
        task="segmentation",
        licence="CC BY-SA 4.0",
        url=_DECATHLON_URL,
        classes=volumes.SPLEEN.classes,
        counts={"train": 1_268, "val": 1_161, "test": 1_221},
        unit="slice",
        rule=f"15 volumes test, then 10 val, evenly spaced; {_SORTED}",
        leak=_SLICES_LEAK,
        files={"Task09_Spleen.tar": "410d4a301da4e5b2f6f86ec3ddba524e"},
        tree="Task09_Spleen/{dataset.json, imagesTr, labelsTr, imagesTs}",
        layout=partial(volumes.decathlon, of=volumes.SPLEEN),
        study=True,
    ),
    DatasetEntry(
        name="btcv",
        title="BTCV abdomen, 13 organs, whole volumes",
        modality="CT",
        task="segmentation",
        licence="see its Synapse page",
        url="https://www.synapse.org/#!Synapse:syn3193805",
        classes=volumes.BTCV_ORGANS,
        counts={"train": 15, "val": 15},
        unit="volume",
        rule=f"every other training volume from the first val; no labelled test; {_SORTED}",
        tree="RawData/{Training/{img, label}, Testing/img}",
        layout=volumes.btcv,
        study=True,
    ),
    DatasetEntry(
        name="btcv-slices",
        title="BTCV abdomen, 13 organs, axial slices",
        modality="CT",
        task="segmentation",
        licence="see its Synapse page",
        url="https://www.synapse.org/#!Synapse:syn3193805",
        classes=volumes.BTCV_ORGANS,
        counts={"train": 2_013, "val": 1_766},
        unit="slice",
        rule=f"every other training volume from the first val; no labelled test; {_SORTED}",
        leak=_SLICES_LEAK,
        tree="RawData/{Training/{img, label}, Testing/img}",
        layout=partial(volumes.btcv, by_slice=True),
        study=True,
    ),
)

OTHERS: tuple[DatasetEntry, ...] = (
    DatasetEntry(
        name="chexpert-u-zeros",
        title="CheXpert, frontal, 5 findings, uncertain as 0",
        modality="X-ray",
        task="multilabel",
        licence="Stanford research use",
        url="https://stanfordmlgroup.github.io/competitions/chexpert/",
        classes=xrays.CHEXPERT_FINDINGS,
        counts={"train": 191_027, "val": 202, "test": 518},
        rule="official train, valid and test tables, frontal views",
        tree=_CHEXPERT_TREE,
        layout=partial(xrays.chexpert, policy="u-zeros"),
    ),
    DatasetEntry(
        name="chexpert-u-ones",
        title="CheXpert, frontal, 5 findings, uncertain as 1",
        modality="X-ray",
        task="multilabel",
        licence="Stanford research use",
        url="https://stanfordmlgroup.github.io/competitions/chexpert/",
        classes=xrays.CHEXPERT_FINDINGS,
        counts={"train": 191_027, "val": 202, "test": 518},
        rule="official train, valid and test tables, frontal views",
        tree=_CHEXPERT_TREE,
        layout=partial(xrays.chexpert, policy="u-ones"),
    ),
    DatasetEntry(
        name="rsna-pneumonia",
        title="RSNA Pneumonia Detection 2018, pneumonia or not",
        modality="X-ray",
        task="binary",
        licence="RSNA terms",
        url="https://www.kaggle.com/c/rsna-pneumonia-detection-challenge",
        classes=("no pneumonia", "pneumonia"),
        rule="no official test labels: split by patient, stratified, saved",
        leak="not excluded without the mapping to NIH images, which names the patients",
        tree="stage_2_train_labels.csv, stage_2_train_images/*.dcm, "
        "[pneumonia-challenge-dataset-mappings_2018.json]",
        layout=xrays.rsna,
    ),
    DatasetEntry(
        name="vindr-cxr",
        title="VinDr-CXR, findings and diagnoses by radiologists",
        modality="X-ray",
        task="multilabel",
        licence="PhysioNet credentialed",
        url="https://physionet.org/content/vindr-cxr/1.0.0/",
        counts={"train": 15_000, "test": 3_000},
        rule="official train and test",
        leak="not told: the set names no patients",
        tree="annotations/image_labels_{train,test}.csv, train/*.dicom, test/*.dicom",
        layout=xrays.vindr,
    ),
    DatasetEntry(
        name="lidc-luna",
        title="LIDC-IDRI as used by LUNA16, a scan with a nodule or not",
        modality="CT",
        task="binary",
        licence="CC BY 3.0",
        url="https://www.cancerimagingarchive.net/collection/lidc-idri/",
        classes=nodules.CLASSES,
        unit="volume",
        rule="no official split (LUNA16 has ten folds): split by patient, stratified, saved",
        tree="annotations.csv, candidates_V2.csv, LIDC-IDRI/LIDC-IDRI-*/STUDY/SERIES/*.dcm",
        layout=nodules.lidc,
    ),
)


def _sizes(md5: Mapping[int, str], size: int) -> str:
    """How the other sizes are called, or which one this is."""
    if size != 28:
        return f" ({size} px)"
    return f" (28 px; also {', '.join(f'_{other}' for other in md5 if other != 28)})"


def _medmnist_entries() -> tuple[DatasetEntry, ...]:
    entries = []
    for name, info in medmnist_sets().items():
        for size, md5 in info.md5.items():
            file = archive_name(name, size)
            entries.append(
                DatasetEntry(
                    name=file.removesuffix(".npz"),
                    title=f"MedMNIST: {info.title}" + _sizes(info.md5, size),
                    modality=info.modality,
                    task=info.task,
                    licence=info.licence,
                    url=SOURCE,
                    classes=info.classes,
                    counts=info.counts,
                    unit="volume" if name.endswith("3d") else "image",
                    rule="official train, val and test",
                    leak="not told: MedMNIST names no patients",
                    files={file: md5},
                    tree=file,
                    layout=partial(medmnist, info=info, size=size),
                )
            )
    return tuple(entries)


MEDMNIST: tuple[DatasetEntry, ...] = _medmnist_entries()
