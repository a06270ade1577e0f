"""Arrays of one kind: whole on disk, or named with what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dinorad_rt.errors import DataError
from dinorad_rt.training.segmentation.arrays import ArrayStore


@pytest.mark.parametrize("left", [0, 100, 200])
def test_an_array_that_was_cut_is_named(cache: Path, left: int) -> None:
    store = ArrayStore.open({"kind": "test", "left": left})
    store.write("one", np.arange(64, dtype=np.float32))
    assert store.read("one")[63] == 63
    store.write("two", np.arange(64, dtype=np.float32))
    path = store.path("two")
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(DataError, match="damaged") as caught:
        store.read("two")
    assert caught.value.fix.endswith(f"rm {path}")
