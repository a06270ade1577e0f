"""Other weights into a loaded TensorRT engine, by NVIDIA's refitter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dinorad_rt.errors import EngineError
from dinorad_rt.runners.tensorrt_flavour import Flavour, logger


def refit_weights(flavour: Flavour, engine: Any, graph: Path) -> None:
    """Put the weights of an ONNX file into a loaded engine.

    Raises:
        EngineError: the file lacks weights, or they do not fit.
    """
    trt = flavour.load()
    log, journal = logger(flavour)
    journal.take()
    try:
        refitter = trt.Refitter(engine, log)
    except TypeError as error:  # the binding's way to say that the factory gave nothing
        raise EngineError(
            f"{flavour.name} cannot put other weights into the engine: {journal.take()}.",
            "Build a new engine: dinorad-rt build",
        ) from error
    parser = trt.OnnxParserRefitter(refitter, log)
    done = parser.refit_from_file(str(graph)) and refitter.refit_cuda_engine()
    missing = list(refitter.get_missing_weights())
    if not done or missing:
        reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        lacking = f"{len(missing)} weights are missing" if missing else ""
        raise EngineError(
            f"{flavour.name} cannot put the graph's weights into the engine: "
            f"{'; '.join(filter(None, (*reasons, lacking))) or journal.take()}.",
            "Build a new engine: dinorad-rt build",
        )


def plan_of(flavour: Flavour, engine: Any) -> Any:
    """The plan of a loaded engine with the weights that it has now, to be refitted again.

    Raises:
        EngineError: the library gives none.
    """
    _, journal = logger(flavour)
    flags = flavour.load().SerializationFlag
    config = engine.create_serialization_config()
    config.clear_flag(flags.EXCLUDE_WEIGHTS)
    if "INCLUDE_REFIT" in flags.__members__:  # from 10.14 on, without it this were the last refit
        config.set_flag(flags.INCLUDE_REFIT)
    blob = engine.serialize_with_config(config)
    if blob is None:
        raise EngineError(
            f"{flavour.name} cannot store the engine with its new weights: {journal.take()}.",
            "Build a new engine: dinorad-rt build",
        )
    return blob
