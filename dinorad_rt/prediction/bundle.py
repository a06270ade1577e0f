"""`Bundle`: one folder that holds all that an answer needs, and nothing that runs on loading.

BUNDLE/bundle.json      task, classes, preprocessing, calibration, operating points, provenance
BUNDLE/graph/           backbone and head, or encoder and decoder, as one exported graph
BUNDLE/MODEL_CARD.md    the same for people: data, metrics with intervals, licence, limits

Engines are not part of it: each machine builds its own from the graph, behind the parity gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from dinorad_rt.errors import BundleError
from dinorad_rt.export.manifest import Graph
from dinorad_rt.files import read_json, sha256_file, sha256_json
from dinorad_rt.metrics.calibration import Activation, OperatingPoint
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.types import Task

FORMAT = 2
"""Since 2 a calibration has an offset (`bias`); bundles of format 1 answer as they did."""
_READ = (1, FORMAT)
BUNDLE_FILE = "bundle.json"
CARD_FILE = "MODEL_CARD.md"
GRAPH_FOLDER = "graph"
LOGITS = "logits"
Kind = Literal["classification", "segmentation"]
_NEEDED = {"files", "name", "kind", "task", "class_names", "activation", "preprocessing"}
_DECIDING = ("class_names", "activation", "preprocessing", "calibration", "operating_points")
_AGAIN = "Make it again: dinorad-rt bundle RUN --out DIR"


@dataclass(frozen=True)
class Bundle:
    """A deployable model.

    Attributes:
        folder: where it lies.
        facts: content of bundle.json.
        graph: verified; output `logits` is (batch, classes), or (batch, classes, *sides) for
            segmentation by slices (H, W) or patches (D, H, W).
    """

    folder: Path
    facts: dict[str, Any]
    graph: Graph

    @classmethod
    def open(cls, folder: str | Path) -> Bundle:
        """Read a bundle and compare every file with its SHA-256.

        Raises:
            BundleError: no bundle, another format, or a file that is not what bundle.json says.
            ExportError: the graph was changed, or reads weights from outside of its folder.
        """
        folder = Path(folder)
        facts = _read(folder)
        for name, wanted in facts["files"].items():
            path = folder / name
            inside = path.resolve().is_relative_to(folder.resolve()) and not path.is_symlink()
            if not inside or not path.is_file() or sha256_file(path) != wanted:
                raise BundleError(
                    f"{name} of the bundle in {folder} is missing or was changed.", _AGAIN
                )
        return cls(folder, facts, Graph.open(folder / GRAPH_FOLDER))

    @property
    def name(self) -> str:
        """What its maker called it."""
        return str(self.facts["name"])

    @property
    def kind(self) -> Kind:
        """What it answers with."""
        return cast(Kind, self.facts["kind"])

    @property
    def task(self) -> Task:
        """binary, multiclass, multilabel or segmentation."""
        return cast(Task, self.facts["task"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Index → name; for segmentation the background comes first."""
        return tuple(self.facts["class_names"])

    @property
    def preprocessing(self) -> PreprocessSpec:
        """What every image goes through."""
        return spec_from(self.facts["preprocessing"])

    @property
    def activation(self) -> Activation:
        """Of the logits."""
        return cast(Activation, self.facts["activation"])

    @property
    def temperature(self) -> np.ndarray:
        """(1,) or (classes,); ones where the bundle is not calibrated."""
        calibration = self.facts.get("calibration") or {"temperature": [1.0]}
        return np.asarray(calibration["temperature"], np.float64)

    @property
    def bias(self) -> np.ndarray:
        """(1,) or (classes,); zeros where the bundle has none."""
        calibration = self.facts.get("calibration") or {}
        return np.asarray(calibration.get("bias", [0.0]), np.float64)

    @property
    def operating_points(self) -> dict[str, OperatingPoint]:
        """Class → threshold, where one was chosen on validation images."""
        points = self.facts.get("operating_points") or {}
        return {name: OperatingPoint(**values) for name, values in points.items()}

    @property
    def slices(self) -> tuple[int, int] | None:
        """Fewest and most slices of an image that thresholds were chosen on; None if not known."""
        found = (self.facts.get("calibration") or {}).get("slices")
        return None if found is None else (int(found[0]), int(found[1]))

    @property
    def modalities(self) -> tuple[str, ...]:
        """DICOM modalities of the training files; empty where they name none."""
        data = (self.facts.get("training") or {}).get("data") or {}
        return tuple(data.get("modalities") or ())

    @property
    def deciding_digest(self) -> str:
        """SHA-256 of all beside the graph that decides an answer: bundles of one run may differ."""
        return sha256_json({name: self.facts.get(name) for name in _DECIDING})

    @property
    def weights_kind(self) -> str:
        """hub, file or random."""
        return self.graph.weights_kind


def spec_from(values: Mapping[str, Any]) -> PreprocessSpec:
    """A preprocessing as it stands in JSON: lists become tuples again.

    Raises:
        BundleError: it names a step that this version does not know.
    """
    known = {item.name for item in fields(PreprocessSpec)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise BundleError(
            f"The preprocessing names {', '.join(unknown)}, which this version does not know.",
            "Update dinorad-rt.",
        )
    return PreprocessSpec(**{k: _tuples(v) for k, v in values.items()})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _read(folder: Path) -> dict[str, Any]:
    path = folder / BUNDLE_FILE
    if not path.is_file():
        raise BundleError(
            f"{folder} is no bundle: {BUNDLE_FILE} is missing.",
            "Make one from a training run: dinorad-rt bundle RUN --out DIR",
        )
    try:
        facts = read_json(path)
    except (ValueError, OSError) as error:
        raise BundleError(f"{BUNDLE_FILE} in {folder} cannot be read: {error}", _AGAIN) from error
    version = facts.get("format")
    if version not in _READ:
        newer = isinstance(version, int) and version > FORMAT
        raise BundleError(
            f"The bundle in {folder} has format {version}; known is {FORMAT}.",
            "A newer version made it: update dinorad-rt." if newer else _AGAIN,
        )
    lacking = sorted(_NEEDED - set(facts))
    if lacking:
        raise BundleError(f"{BUNDLE_FILE} in {folder} lacks {', '.join(lacking)}.", _AGAIN)
    return facts
