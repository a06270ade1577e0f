"""The backbone below a run: its facts in train.json, and finding the same weights again.

Paths of weights are not written into runs. Where a file with a hash lay is remembered in this
machine's cache. Imported late: it needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dinorad_rt.backbones.load import Backbone, WeightsInfo, build_module, load_backbone
from dinorad_rt.backbones.registry import get_spec
from dinorad_rt.errors import RunError, WeightsError
from dinorad_rt.files import read_json, write_json
from dinorad_rt.paths import cache_dir

KIND = "weights"


def backbone_facts(backbone: Backbone, seed: int = 0) -> dict[str, Any]:
    """What train.json says of a backbone; `seed` is that of random weights."""
    weights = backbone.weights
    return {
        "model": backbone.spec.name,
        "architecture": backbone.spec.architecture,
        "family": backbone.spec.family,
        "image_size": backbone.image_size,
        "weights": {
            "kind": weights.kind,
            "sha256": weights.sha256,
            "source": weights.source,
            "licence": weights.licence,
            **({"seed": seed} if weights.kind == "random" else {}),
        },
    }


def remember_weights(backbone: Backbone, weights: str) -> None:
    """Note in the cache where a file of weights lies, by its hash."""
    if backbone.weights.kind == "file":
        path = Path(weights).expanduser().resolve()
        write_json(_note(backbone.weights.sha256), {"path": str(path)})


def load_base(facts: Mapping[str, Any], weights: str | Path | None = None) -> Backbone:
    """The backbone that a run began with.

    Args:
        facts: from `backbone_facts`.
        weights: hub, or the file; None to find it by its hash.

    Raises:
        RunError: these are other weights, or the file is not found.
        WeightsError: see `load_backbone`.
    """
    wanted = facts["weights"]
    source = str(weights) if weights is not None else _source(wanted)
    backbone = load_backbone(
        facts["model"],
        weights=source,
        image_size=facts["image_size"],
        seed=int(wanted.get("seed", 0)),
    )
    if backbone.weights.sha256 != wanted["sha256"]:
        raise RunError(
            f"The run began with weights {wanted['sha256'][:12]} of {facts['model']} "
            f"({wanted['source']}); these are {backbone.weights.sha256[:12]} "
            f"({backbone.weights.source}).",
            "Give the file that it began with: --weights PATH",
        )
    return backbone


def empty_base(facts: Mapping[str, Any]) -> Backbone:
    """The architecture alone, for runs that trained all of it."""
    spec = get_spec(facts["model"])
    known = {name: facts["weights"][name] for name in ("kind", "sha256", "source", "licence")}
    module = build_module(spec, facts["image_size"])
    return Backbone(spec, module, WeightsInfo(**known), facts["image_size"])


def _source(wanted: Mapping[str, Any]) -> str:
    from dinorad_rt.engines.inventory import touch

    if wanted["kind"] != "file":
        return str(wanted["kind"])
    note = _note(wanted["sha256"])
    path = Path(read_json(note)["path"]) if note.is_file() else None
    if path is None or not path.exists():
        raise WeightsError(
            f"The run began with the file {wanted['source']} ({wanted['sha256'][:12]}), which is "
            "not known on this machine, or has moved.",
            "Give it: --weights PATH",
        )
    touch(note)
    return str(path)


def _note(sha256: str) -> Path:
    return cache_dir(KIND) / f"{sha256}.json"
