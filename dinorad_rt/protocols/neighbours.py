"""Exact nearest neighbours by cosine, in bounded memory.

On the processor faiss's exact search does the work; on a GPU, or without faiss, chunked matrix
products in PyTorch do. There a chunk is not sorted: the maximum of every 32 columns is compared
with the k-th best found so far, and only columns that beat it are looked at. The first chunk is
small and later ones grow, so that few do. Equal similarities come in the order of their indices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.errors import ProtocolError
from dinorad_rt.optional import is_installed
from dinorad_rt.progress import Progress, uncounted

if TYPE_CHECKING:
    import torch

QUERY_ROWS = 512
FAISS_QUERY_ROWS = 4_096
TIED_ROWS = 64
FIRST_ROWS = 2_048
REFERENCE_ROWS = 16_384
BLOCK = 32
_SIGN = 0x7FFFFFFF
_LEAST = -(2**63)


def neighbours(
    queries: np.ndarray,
    reference: np.ndarray | Iterable[np.ndarray],
    k: int,
    *,
    device: str = "cpu",
    search: str | None = None,
    progress: Progress = uncounted,
) -> tuple[np.ndarray, np.ndarray]:
    """The k reference rows with the highest cosine similarity to each query, exactly.

    Args:
        queries: (queries, dim), any scale; rows are normalised here.
        reference: (rows, dim), or an iterable of such chunks that need not fit in memory at once.
        k: neighbours, at most the number of reference rows.
        device: where the products run, such as `cpu` or `cuda`.
        search: `faiss` or `torch`; None takes faiss on the processor where it is installed.
        progress: called with (done, total) rows; not where the reference comes in chunks.

    Returns:
        Similarities (queries, k) float32, highest first, and indices (queries, k) int64 into the
        reference.

    Raises:
        ProtocolError: k is below one or larger than the reference set, or a row is zero or not
            finite.
    """
    if k < 1:
        raise ProtocolError(f"k = {k} neighbours were asked for.", "Use k of at least 1.")
    if search is None:
        search = "faiss" if device == "cpu" and is_installed("faiss") else "torch"
    if search == "faiss":
        return _by_faiss(queries, reference, k, progress)
    return _by_torch(queries, reference, k, device, progress)


def _by_torch(
    queries: np.ndarray,
    reference: np.ndarray | Iterable[np.ndarray],
    k: int,
    device: str,
    progress: Progress,
) -> tuple[np.ndarray, np.ndarray]:
    import torch

    best = torch.empty((len(queries), 0), dtype=torch.int64)
    seen = 0
    with torch.inference_mode():
        for chunk in _chunks(reference):
            rows = torch.from_numpy(unit_rows(chunk, "reference", seen)).to(device)
            best = _merge_chunk(queries, rows, best, seen, k)
            seen += len(chunk)
            if isinstance(reference, np.ndarray):
                progress(seen, len(reference))
    _check_k(k, seen)
    similarity, index = _unpack(best)
    return similarity.numpy(), index.numpy()


def _by_faiss(
    queries: np.ndarray,
    reference: np.ndarray | Iterable[np.ndarray],
    k: int,
    progress: Progress,
) -> tuple[np.ndarray, np.ndarray]:
    import torch

    best = torch.empty((len(queries), 0), dtype=torch.int64)
    seen = 0
    for chunk in [reference] if isinstance(reference, np.ndarray) else reference:
        rows = unit_rows(chunk, "reference", seen)
        width = min(k, best.shape[1] + len(rows))
        merged = torch.empty((len(queries), width), dtype=torch.int64)
        for start in range(0, len(queries), FAISS_QUERY_ROWS):
            part = slice(start, start + FAISS_QUERY_ROWS)
            found = _search_chunk(unit_rows(queries[part], "query", start), rows, k, seen)
            both = torch.cat([best[part], found], dim=1)
            merged[part] = both.sort(dim=1, descending=True).values[:, :width]
            if isinstance(reference, np.ndarray):
                progress(min(part.stop, len(queries)), len(queries))
        best = merged
        seen += len(chunk)
    _check_k(k, seen)
    values, indices = _unpack(best)
    return values.numpy(), indices.numpy()


def _search_chunk(queries: np.ndarray, rows: np.ndarray, k: int, offset: int) -> torch.Tensor:
    """Packed top k of each query; rows that end in a tie are settled by the smaller index.

    faiss keeps any of several equal similarities at rank k (from k = 100 on), so one more
    neighbour is asked for, and queries whose ranks k and k + 1 are equal are searched again.
    """
    import faiss
    import torch

    similarity, index = faiss.knn(
        queries, rows, min(k + 1, len(rows)), metric=faiss.METRIC_INNER_PRODUCT
    )
    found = _pack(torch.from_numpy(similarity), torch.from_numpy(index + offset))[:, :k]
    if similarity.shape[1] > k:
        tied = np.flatnonzero(similarity[:, k - 1] == similarity[:, k])
        numbers = torch.arange(offset, offset + len(rows))
        for part in np.array_split(tied, -(-len(tied) // TIED_ROWS) or 1):
            again = torch.from_numpy(queries[part]) @ torch.from_numpy(rows).T
            found[part] = _pack(again, numbers).topk(k, dim=1).values
    return found


def _check_k(k: int, rows: int) -> None:
    if k > rows:
        raise ProtocolError(
            f"k = {k} is larger than the reference set of {rows} rows.", f"Use k up to {rows}."
        )


def unit_rows(rows: np.ndarray, what: str, start: int = 0) -> np.ndarray:
    """Rows of length one, float32, contiguous.

    Raises:
        ProtocolError: a row is zero or not finite; the message names the first ones.
    """
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    length = np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
    bad = np.flatnonzero(~((length > 0) & np.isfinite(length)))
    if len(bad):
        listed = ", ".join(str(row + start) for row in bad[:5])
        raise ProtocolError(
            f"{len(bad)} {what} embeddings are zero or not finite: rows {listed}.",
            "Verify the engine (dinorad-rt build), and look at the images of these rows.",
        )
    return np.asarray(rows / length)


def _chunks(reference: np.ndarray | Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Contiguous chunks that double from FIRST_ROWS to REFERENCE_ROWS."""
    parts: Iterable[np.ndarray] = [reference] if isinstance(reference, np.ndarray) else reference
    rows = FIRST_ROWS
    for part in parts:
        start = 0
        while start < len(part):
            yield np.ascontiguousarray(part[start : start + rows])
            start += rows
            rows = min(2 * rows, REFERENCE_ROWS)


def _merge_chunk(
    queries: np.ndarray, rows: torch.Tensor, best: torch.Tensor, offset: int, k: int
) -> torch.Tensor:
    """The running top k, packed, after one more chunk of the reference."""
    import torch

    width = min(k, best.shape[1] + len(rows))
    merged = torch.empty((len(queries), width), dtype=torch.int64)
    for start in range(0, len(queries), QUERY_ROWS):
        part = slice(start, start + QUERY_ROWS)
        left = torch.from_numpy(unit_rows(queries[part], "query", start)).to(rows.device)
        similarity = left @ rows.T
        known = best[part].to(rows.device)
        if best.shape[1] < k:
            index = torch.arange(offset, offset + len(rows), device=rows.device)
            found = _pack(similarity, index)
        else:
            found = _better_columns(similarity, _unpack(known[:, -1:])[0], offset)
        merged[part] = torch.cat([known, found], dim=1).topk(width, dim=1).values.cpu()
    return merged


def _better_columns(similarity: torch.Tensor, threshold: torch.Tensor, offset: int) -> torch.Tensor:
    """Packed columns above each row's threshold, left-aligned and filled up with the least value.

    Columns equal to the threshold come later in the reference than what they equal: they lose.
    """
    import torch

    rows, columns = similarity.shape
    short = -columns % BLOCK
    if short:
        similarity = torch.nn.functional.pad(similarity, (0, short), value=-torch.inf)
    tiles = similarity.view(rows, -1, BLOCK)
    row, tile = (tiles.amax(dim=2) > threshold).nonzero(as_tuple=True)
    values = tiles[row, tile]
    hit, lane = (values > threshold[row]).nonzero(as_tuple=True)
    row, column = row[hit], tile[hit] * BLOCK + lane
    counts = torch.bincount(row, minlength=rows)
    slot = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    found = torch.full((rows, int(counts.max())), _LEAST, device=row.device)
    found[row, slot] = _pack(values[hit, lane], column + offset)
    return found


def _pack(similarity: torch.Tensor, index: Any) -> torch.Tensor:
    """One integer per pair that orders by similarity, then by the smaller index.

    The bits of a float32 order like integers once those of negative numbers are flipped.
    """
    import torch

    bits = (similarity.float() + 0.0).view(torch.int32)  # + 0.0: no negative zero
    ordered = torch.where(bits < 0, bits ^ _SIGN, bits).to(torch.int64)
    packed: torch.Tensor = (ordered << 32) | (0xFFFFFFFF - index)
    return packed


def _unpack(packed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    ordered = (packed >> 32).to(torch.int32)
    bits = torch.where(ordered < 0, ordered ^ _SIGN, ordered)
    return bits.view(torch.float32), 0xFFFFFFFF - (packed & 0xFFFFFFFF)
