"""What of a backbone is trained: everything, adapters, biases, or nothing. Imported late: torch."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from dinorad_rt.errors import TrainingError
from dinorad_rt.files import atomic_folder, json_text, read_json
from dinorad_rt.optional import require
from dinorad_rt.training.targets import adapter_targets, call_projections

Protocol = Literal["finetune", "lora", "bitfit", "linear"]
AdapterKind = Literal["lora", "dora", "rslora", "loha", "lokr"]
PROTOCOLS: tuple[Protocol, ...] = ("finetune", "lora", "bitfit", "linear")
ADAPTERS: tuple[AdapterKind, ...] = ("lora", "dora", "rslora", "loha", "lokr")


@dataclass(frozen=True)
class Method:
    """What is trained beside the head.

    Attributes:
        protocol: finetune (all of the backbone), lora (adapters), bitfit (biases, arXiv
            2106.10199), linear (nothing).
        adapter: lora (arXiv 2106.09685), dora (2402.09353), rslora (2312.03732), loha (2108.06098),
            lokr (2309.14859).
        rank, alpha, dropout: of the adapters; their product is scaled by alpha / rank (rslora: by
            alpha / √rank).
        adapter_bias: also train the biases of adapted layers (lora and its kin only).
        layer_decay: learning rate of each layer as a share of the next one's, for finetune; None
            for the same everywhere.
        head_lr_scale: learning rate of the head as a multiple of the backbone's.
    """

    protocol: Protocol = "lora"
    adapter: AdapterKind = "lora"
    rank: int = 16
    alpha: float = 16.0
    dropout: float = 0.0
    adapter_bias: bool = False
    layer_decay: float | None = None
    head_lr_scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuse numbers that would train nothing, or uphill.

        Raises:
            TrainingError: naming the number and what is allowed.
        """
        for name, valid, allowed in (
            ("rank", self.rank >= 1, "1 or more"),
            ("alpha", 0 < self.alpha < float("inf"), "above 0"),
            ("dropout", 0 <= self.dropout < 1, "0 to below 1"),
            ("layer_decay", self.layer_decay is None or 0 < self.layer_decay <= 1, "0 to 1"),
            ("head_lr_scale", 0 <= self.head_lr_scale < float("inf"), "0 or more"),
        ):
            if not valid:
                option = "--" + name.replace("_", "-")
                raise TrainingError(
                    f"{name} is {getattr(self, name)}; allowed: {allowed}.", f"Correct {option}."
                )

    def as_dict(self) -> dict[str, Any]:
        """The values that this protocol reads."""
        values = asdict(self)
        if self.protocol != "lora":
            for name in ("adapter", "rank", "alpha", "dropout", "adapter_bias"):
                del values[name]
        if self.protocol != "finetune":
            del values["layer_decay"]
        return values


def apply_method(backbone: nn.Module, family: str, method: Method) -> Any:
    """Set which parameters of a backbone require gradients; put adapters into it.

    Args:
        backbone: changed in place.
        family: of its spec.
        method: what is trained.

    Returns:
        The peft model around the backbone, which saves its adapters; None without adapters.

    Raises:
        TrainingError: the backbone has nothing of the kind.
        MissingPackageError: peft is not installed.
    """
    backbone.requires_grad_(method.protocol == "finetune")
    if method.protocol == "bitfit":
        biases = [p for n, p in backbone.named_parameters() if "bias" in n.rsplit(".", 1)[-1]]
        if not biases:
            raise TrainingError(
                f"{type(backbone).__name__} has no biases to train.",
                "Use --protocol lora, finetune or linear.",
            )
        for bias in biases:
            bias.requires_grad_(True)
    if method.protocol == "lora":
        call_projections(backbone)
        return _adapted(backbone, adapter_targets(backbone, family), method)
    return None


def hold_statistics(backbone: nn.Module, method: Method) -> None:
    """Keep the running statistics of batch norms as they are, unless all is fine-tuned."""
    if method.protocol == "finetune":
        return
    for part in backbone.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()


def parameter_groups(
    backbone: nn.Module, head: nn.Module, method: Method, weight_decay: float
) -> list[dict[str, Any]]:
    """Groups for the optimiser: no decay of biases and norms, layer-wise rates if asked for."""
    groups = [
        {"params": params, "lr_scale": method.head_lr_scale, "weight_decay": decay}
        for params, decay in _by_decay(head, weight_decay)
    ]
    layered = hasattr(backbone, "group_matcher")  # timm's; torchvision's layers have no order
    if method.protocol == "finetune" and method.layer_decay is not None and layered:
        import timm.optim

        skip: Any = getattr(backbone, "no_weight_decay", set)
        layers = timm.optim.param_groups_layer_decay(  # type: ignore[attr-defined]
            backbone, weight_decay, no_weight_decay_list=skip(), layer_decay=method.layer_decay
        )
        keep = ("params", "lr_scale", "weight_decay")
        return [*({name: group[name] for name in keep} for group in layers), *groups]
    return [
        *(
            {"params": params, "lr_scale": 1.0, "weight_decay": decay}
            for params, decay in _by_decay(backbone, weight_decay)
        ),
        *groups,
    ]


def merge_adapters(module: nn.Module) -> None:
    """Put every adapter of a module into the weights below it, in place; the layers are as before.

    Raises:
        TrainingError: numbers that do not fit, such as NaN in an adapter.
    """
    peft = require("peft", "merging adapters")
    layer_class = peft.tuners.tuners_utils.BaseTunerLayer
    for path, part in list(module.named_modules()):
        if not isinstance(part, layer_class):
            continue
        try:
            part.merge(safe_merge=True)
        except ValueError as error:
            raise TrainingError(f"The adapter of {path} cannot be merged: {error}") from error
        parent, _, name = path.rpartition(".")
        setattr(module.get_submodule(parent), name, part.get_base_layer())


def save_adapter(adapted: Any, folder: Path) -> None:
    """Write adapters in peft's own format, in place of earlier ones, whole or not at all.

    adapter_model.safetensors and adapter_config.json; the same adapters give the same bytes.

    Raises:
        NoSpaceError: the disk is full.
    """
    with atomic_folder(folder) as part:
        adapted.save_pretrained(str(part))
        (part / "README.md").unlink(missing_ok=True)  # an empty form
        config = part / "adapter_config.json"
        facts = read_json(config)
        targets = facts["target_modules"]
        if isinstance(targets, list):  # a set, in an order of its own in each process
            facts["target_modules"] = sorted(targets)
        config.write_text(json_text(facts), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)


def _by_decay(module: nn.Module, weight_decay: float) -> list[tuple[list[nn.Parameter], float]]:
    trained = [p for p in module.parameters() if p.requires_grad]
    parts = [
        ([p for p in trained if p.ndim > 1], weight_decay),
        ([p for p in trained if p.ndim <= 1], 0.0),
    ]
    return [(params, decay) for params, decay in parts if params]


def _adapted(backbone: nn.Module, targets: list[str], method: Method) -> Any:
    peft = require("peft", "training adapters (--protocol lora)")
    common = {"r": method.rank, "target_modules": targets}
    if method.adapter in ("loha", "lokr"):
        config = peft.LoHaConfig if method.adapter == "loha" else peft.LoKrConfig
        chosen = config(
            **common, alpha=method.alpha, rank_dropout=0.0, module_dropout=method.dropout
        )
    else:
        chosen = peft.LoraConfig(
            **common,
            lora_alpha=method.alpha,
            lora_dropout=method.dropout,
            bias="lora_only" if method.adapter_bias else "none",
            use_dora=method.adapter == "dora",
            use_rslora=method.adapter == "rslora",
        )
    return peft.get_peft_model(backbone, chosen)
