"""Published weights: from the local cache, else from the hub, with an early and clear "no".

Environment: HF_HUB_OFFLINE=1 never touches the network; HF_ENDPOINT names a mirror; HF_HOME moves
the cache. An unreachable hub is noticed within seconds: one short request goes ahead of the
download, so that the hub client's own retries never start.
"""

from __future__ import annotations

import errno
import re
import threading
from pathlib import Path
from urllib.parse import urlsplit

from dinorad_rt.backbones.spec import BackboneSpec
from dinorad_rt.errors import HubUnreachableError, WeightsError
from dinorad_rt.files import atomic_path, sha256_file, space_errors_named

CONNECT_SECONDS = 3.0
READ_SECONDS = 20.0
CHUNK = 1 << 20


def fetch(spec: BackboneSpec) -> Path:
    """Path of a spec's published weights on this machine, downloaded if need be.

    Raises:
        HubUnreachableError: not in the cache, and offline, unreachable or access refused.
        WeightsError: the source has no such file, or the download is damaged.
    """
    if spec.source.startswith("hf:"):
        return _fetch_repository(spec)
    if spec.source.startswith("https://"):
        return _fetch_url(spec)
    raise WeightsError(
        f"No weights of {spec.name} are published where dinorad-rt could fetch them.",
        "Give your own file, --weights PATH, or try the machinery with --weights random.",
    )


def _fetch_repository(spec: BackboneSpec) -> Path:
    """One file of a repository, or the index of a checkpoint in shards with all of them."""
    from huggingface_hub import constants

    from dinorad_rt.backbones.locate import FILE_NAMES, INDEX_NAMES, shard_names

    owner, name, *rest = spec.source.removeprefix("hf:").split("/")
    repository = f"{owner}/{name}"
    files = ["/".join(rest)] if rest else [*FILE_NAMES, *INDEX_NAMES]
    cached = _cached(repository, files)
    if cached is not None:
        return cached
    if constants.HF_HUB_OFFLINE:
        raise _unreachable(spec, "HF_HUB_OFFLINE is set and they are not in the local cache")
    _probe(spec, constants.ENDPOINT)
    for file in files:
        path = _fetch_file(spec, repository, file)
        if path is None:
            continue
        for shard in shard_names(path) if file in INDEX_NAMES else ():
            if _fetch_file(spec, repository, shard) is None:
                raise WeightsError(
                    f"{repository} holds {file}, but not {shard}, which it names.",
                    f"Download the weights of {spec.name} yourself and give them to --weights PATH",
                )
        return path
    raise WeightsError(
        f"{repository} holds none of {', '.join(files)}.",
        f"Download the weights of {spec.name} yourself and give them to --weights PATH.",
    )


def _fetch_file(spec: BackboneSpec, repository: str, file: str) -> Path | None:
    """One file from the hub or its cache, held to its hash; None where there is none."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    # The hub client changes its HTTP library; its own error derives from that library's base.
    broken: tuple[type[Exception], ...] = (*HfHubHTTPError.__bases__, OSError, RuntimeError)
    try:
        with space_errors_named(Path(constants.HF_HUB_CACHE)):
            path = Path(hf_hub_download(repository, file, etag_timeout=CONNECT_SECONDS))
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise _refused(spec, repository) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise _unreachable(spec, "the connection broke off") from error
    except EntryNotFoundError:
        return None
    except broken as error:
        raise _unreachable(spec, f"the download failed: {_first_line(error)}") from error
    _check_blob(path)
    return path


def _cached(repository: str, files: list[str]) -> Path | None:
    """The file in the hub's cache; an index only with every shard that it names."""
    from huggingface_hub import try_to_load_from_cache

    from dinorad_rt.backbones.locate import INDEX_NAMES, shard_names

    for file in files:
        path = try_to_load_from_cache(repository, file)
        if isinstance(path, str) and (
            file not in INDEX_NAMES
            or all((Path(path).parent / shard).is_file() for shard in shard_names(Path(path)))
        ):
            return Path(path)
    return None


def _check_blob(path: Path) -> None:
    """The hub's cache names a large file by its SHA-256: hold the content to it."""
    name = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", name) and sha256_file(path) != name:
        path.resolve().unlink()
        raise WeightsError(
            f"The download of {path.name} is damaged: its SHA-256 is not the hub's.",
            "It was removed from the cache; run the same command again.",
        )


def _fetch_url(spec: BackboneSpec) -> Path:
    """Download one file into our cache, whole or not at all, and check its hash."""
    from huggingface_hub import constants

    from dinorad_rt.engines.inventory import touch
    from dinorad_rt.paths import cache_dir

    target = cache_dir("weights") / Path(urlsplit(spec.source).path).name
    if target.is_file():
        touch(target)
        return target
    if constants.HF_HUB_OFFLINE:
        raise _unreachable(spec, "HF_HUB_OFFLINE is set and they are not in the local cache")
    _probe(spec, "https://" + urlsplit(spec.source).netloc)
    with atomic_path(target) as part:
        try:
            _download(spec.source, part)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise  # atomic_path names the folder
            raise _unreachable(spec, f"the download failed: {_first_line(error)}") from error
        _check_hash(spec, target.name, sha256_file(part))
    return target


def _download(url: str, target: Path) -> None:
    import urllib.request

    with (
        urllib.request.urlopen(url, timeout=READ_SECONDS) as reply,
        target.open("wb") as file,
    ):
        while chunk := reply.read(CHUNK):
            file.write(chunk)


def _check_hash(spec: BackboneSpec, file: str, found: str) -> None:
    """Hold a download to the spec's hash, or to the eight digits in torchvision's file names."""
    digits = re.search(r"-([0-9a-f]{8})\.pth$", file)
    expected = spec.sha256 or (digits[1] if digits else "")
    if not found.startswith(expected):
        raise WeightsError(
            f"The download of {file} is damaged: SHA-256 {found}, published {expected}.",
            "Run the same command again; if it stays so, the publisher changed the file.",
        )


def hub_problem(endpoint: str | None = None) -> str | None:
    """Why an endpoint cannot be reached, or None if it answers; takes a few seconds at most.

    One short request; any reply will do. Name resolution counts against the limit as well.

    Args:
        endpoint: URL; None for the hub.
    """
    import urllib.error
    import urllib.request

    from huggingface_hub import constants

    if endpoint is None and constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    url = endpoint or constants.ENDPOINT
    failure = ["no answer"]

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=CONNECT_SECONDS).close()
        except urllib.error.HTTPError as reply:
            reply.close()
        except (OSError, ValueError) as error:
            failure[0] = _first_line(error)
            return
        failure.clear()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS + 1.0)
    return f"{urlsplit(url).netloc or url} cannot be reached ({failure[0]})" if failure else None


def _probe(spec: BackboneSpec, endpoint: str) -> None:
    problem = hub_problem(endpoint)
    if problem is not None:
        raise _unreachable(spec, problem)


def _first_line(error: BaseException) -> str:
    text = str(getattr(error, "reason", None) or error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


def _unreachable(spec: BackboneSpec, reason: str) -> HubUnreachableError:
    return HubUnreachableError(
        f"The weights of {spec.name} ({spec.source}) are not on this machine: {reason}.",
        "Three ways out: 1. download them elsewhere and give the file: --weights PATH; "
        "2. go online, or name a mirror with HF_ENDPOINT, and run the same command again; "
        "3. try the machinery without trained weights: --weights random",
    )


def _refused(spec: BackboneSpec, repository: str) -> HubUnreachableError:
    return HubUnreachableError(
        f"The hub refuses {repository}, the source of {spec.name}: it asks for a login, for its "
        f"licence to be accepted ({spec.licence}), or it does not exist.",
        f"Accept the licence on the page of {repository}, log in with `hf auth login` and run the "
        "same command again; or give a file: --weights PATH; or --weights random",
    )
