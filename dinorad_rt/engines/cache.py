"""The engine cache: content-addressed folders, written whole or not at all, built once."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinorad_rt.engines.manifest import FORMAT, MANIFEST, Engine
from dinorad_rt.errors import CacheError
from dinorad_rt.files import (
    atomic_folder,
    held_lock,
    sha256_file,
    sha256_json,
    write_json,
)
from dinorad_rt.paths import cache_dir
from dinorad_rt.progress import Say
from dinorad_rt.runners.base import Plan

if TYPE_CHECKING:
    from dinorad_rt.export.manifest import Graph

KIND = "engines"
SHARED_BYTES = 1 << 20
"""Files from this size on are looked for in other engines."""


def key_parts(graph: Graph, plan: Plan) -> dict[str, Any]:
    """Everything that decides an engine, in plain values: the content of its key."""
    return {
        "format": FORMAT,
        "graph": graph.sha256,
        "recipe": graph.manifest.get("recipe"),
        "weights": graph.manifest.get("weights"),
        **{name: graph.manifest[name] for name in ("normalisation",) if name in graph.manifest},
        "precision": graph.precision,
        "backend": plan.backend,
        "backend_version": plan.version,
        "batch": plan.batch,
        "settings": dict(plan.settings),
        "device": dict(plan.device),
    }


def engine_key(parts: Mapping[str, Any]) -> str:
    """SHA-256 of `key_parts`."""
    return sha256_json(parts)


def find_engine(key: str) -> Engine | None:
    """The cached engine of a key, or None.

    Raises:
        CacheError: it is there but damaged, or its manifest carries another key.
    """
    folder = engine_root() / key
    if not folder.exists():
        return None
    engine = Engine.open(folder)
    if engine.key != key:
        raise CacheError(
            f"The engine in {folder.name[:12]}… carries the key {engine.key[:12]}….",
            "Remove it and build again: dinorad-rt cache prune engines",
        )
    return engine


def built_engine(key: str) -> Engine:
    """The engine of a key that was just written.

    Raises:
        CacheError: as `find_engine`.
    """
    engine = find_engine(key)
    assert engine is not None, "an engine that was just written is gone"
    return engine


def list_engines() -> Iterator[Engine]:
    """Every cached engine whose manifest can be read."""
    for folder in sorted(cache_dir(KIND).iterdir()):
        if folder.is_dir() and not folder.name.startswith("."):
            try:
                yield Engine.open(folder)
            except CacheError:
                continue


def engine_root() -> Path:
    """The folder of engines, for this user alone.

    Raises:
        CacheError: as `private_dir`.
    """
    return private_dir(KIND)


def private_dir(kind: str) -> Path:
    """The folder of one kind of cached code (`engines`, `kernels`), for this user alone.

    Raises:
        CacheError: the folder belongs to another user, or others may write into it.
    """
    root = cache_dir(kind)
    facts = root.stat()
    fix = "Choose a folder of your own: set DINORAD_RT_CACHE"
    if hasattr(os, "getuid") and facts.st_uid != os.getuid():
        raise CacheError(
            f"The cache of {kind}, {root}, belongs to another user. An engine is code: only your "
            "own are run.",
            fix,
        )
    if facts.st_mode & 0o077:
        try:
            root.chmod(0o700)
        except OSError as error:  # read-only, or a file system without permissions
            if facts.st_mode & 0o022 and error.errno != errno.EROFS:
                raise CacheError(
                    f"Others may write into the cache of {kind}, {root}, and that cannot be "
                    f"changed ({error.strerror}). An engine is code: only your own are run.",
                    fix,
                ) from error
    return root


def build_lock(key: str, say: Say) -> AbstractContextManager[None]:
    """Hold the lock of one key: who comes second waits, then finds the engine built."""
    told = "another process is building this engine; waiting for it"
    return held_lock(cache_dir(KIND) / f"{key}.lock", lambda: say(told))


@contextmanager
def new_engine_folder(key: str) -> Iterator[Path]:
    """A folder that becomes the engine of `key` if the block succeeds; else nothing remains.

    To be used under `build_lock`. Where the file system has no locks another process may have built
    the same engine meanwhile: then that one stays.

    Raises:
        NoSpaceError: the disk is full.
    """
    target = engine_root() / key
    try:
        with atomic_folder(target) as folder:
            yield folder
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not target.exists():
            raise


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> Engine:
    """Write `engine.json` over the files in `folder`, with size and SHA-256 of each."""
    files = {
        path.name: {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }
    write_json(folder / MANIFEST, {**facts, "format": FORMAT, "files": files})
    return Engine.open(folder)


def share_files(engine: Engine) -> None:
    """Link big files to those of cached engines of the same graph with the same content.

    Engines of several batch sizes hold the same weights: on disk and in memory they lie once.
    """
    others = [found for found in list_engines() if found.graph_sha256 == engine.graph_sha256]
    for name, facts in engine.files.items():
        if facts["bytes"] < SHARED_BYTES:
            continue
        twins = [other.file(name) for other in others if other.files.get(name) == facts]
        for twin in twins:
            if _link_over(twin, engine.file(name), facts["sha256"]):
                break


def _link_over(source: Path, target: Path, sha256: str) -> bool:
    """Replace `target` by a link to `source`, if that still has this content."""
    link = target.with_name(f".{target.name}.link")
    try:
        if sha256_file(source) != sha256:
            return False
        os.link(source, link)
        link.replace(target)
    except OSError:  # no hard links here, or the other engine is just being deleted
        link.unlink(missing_ok=True)
        return False
    return True


def place_file(source: Path, folder: Path, name: str) -> None:
    """Put `source` into `folder` as `name`: linked where the disk allows, else copied."""
    try:
        os.link(source.resolve(), folder / name)
    except OSError:
        shutil.copyfile(source, folder / name)
