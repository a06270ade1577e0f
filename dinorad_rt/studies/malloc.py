"""Memory of decoding processes: freed buffers are kept for the next image, not given back."""

from __future__ import annotations

import ctypes
import sys

KEEP_BYTES = 256 << 20
MAPPED_BYTES = 32 << 20
"""Larger buffers are mapped and given back all the same: the most that every glibc accepts."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc


def keep_freed_memory(limit: int = KEEP_BYTES) -> bool:
    """Tell glibc to keep up to `limit` bytes of freed memory in this process.

    A decoder allocates and frees the same few buffers for each image. glibc returns large ones
    to the system and faults them in again, page by page, which can cost more than decoding.
    Meant for worker processes that do nothing but decode, called once at their start.

    Returns:
        True if it was done; False where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version") or not hasattr(library, "mallopt"):
        return False
    options = ((_M_TRIM_THRESHOLD, limit), (_M_MMAP_THRESHOLD, min(limit, MAPPED_BYTES)))
    return all(library.mallopt(option, value) == 1 for option, value in options)
