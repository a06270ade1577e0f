"""The hub without a network: cache, offline switch, refusal, damage, and how fast a "no" comes."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import http.server
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError
from safetensors.torch import save_file

from dinorad_rt.backbones import hub, registry
from dinorad_rt.backbones.load import load_backbone
from dinorad_rt.backbones.registry import get_spec
from dinorad_rt.backbones.spec import BackboneSpec
from dinorad_rt.engines.inventory import entries, surplus
from dinorad_rt.errors import HubUnreachableError, NoSpaceError, WeightsError
from dinorad_rt.training.base import backbone_facts, load_base, remember_weights


@pytest.fixture
def closed_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache and an endpoint where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return tmp_path


@pytest.fixture
def silent_hub(closed_hub: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An endpoint that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(hub, "CONNECT_SECONDS", 0.2)
        yield closed_hub


def test_an_unreachable_hub_names_three_ways_out(closed_hub: Path) -> None:
    began = time.monotonic()
    with pytest.raises(HubUnreachableError, match="cannot be reached") as caught:
        load_backbone("vits14")
    assert time.monotonic() - began < 10
    assert all(way in caught.value.fix for way in ("--weights PATH", "HF_ENDPOINT", "random"))


def test_a_hub_that_never_answers_is_given_up(silent_hub: Path) -> None:
    began = time.monotonic()
    with pytest.raises(HubUnreachableError):
        hub.fetch(get_spec("vits14"))
    assert time.monotonic() - began < 10


def test_offline_asks_nobody(silent_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "_probe", lambda *_: pytest.fail("the network was asked"))
    for name in ("vits14", "squeezenet1_1"):
        monkeypatch.setenv("DINORAD_RT_CACHE", str(silent_hub))
        with pytest.raises(HubUnreachableError, match="HF_HUB_OFFLINE"):
            hub.fetch(get_spec(name))


def test_auto_falls_back_to_random_and_says_so(
    closed_hub: Path, shrink: Callable[..., BackboneSpec]
) -> None:
    shrink("vits14")
    backbone = load_backbone("tiny", weights="auto")
    assert backbone.weights.kind == "random"
    assert backbone.weights.notes[0].startswith("weights: random.")
    assert "cannot be reached" in backbone.weights.notes[0]


def test_the_local_cache_is_used_without_a_network(
    closed_hub: Path, shrink: Callable[..., BackboneSpec]
) -> None:
    spec = shrink("vits14")
    folder = closed_hub / "models--timm--vit_small_patch14_dinov2.lvd142m"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    state = load_backbone("tiny", weights="random", image_size=70).module.state_dict()
    save_file(state, folder / "snapshots" / "abc" / "model.safetensors")
    backbone = load_backbone("tiny", weights="hub", image_size=98)
    assert backbone.weights.kind == "hub"
    assert backbone.weights.source == spec.source
    assert backbone.weights.licence == "Apache-2.0"
    assert any("5 x 5 to 7 x 7 (hub)" in note for note in backbone.weights.notes)


def test_weights_published_nowhere(closed_hub: Path) -> None:
    spec = dataclasses.replace(get_spec("vits14"), name="mine", source="")
    with pytest.raises(WeightsError, match="published"):
        hub.fetch(spec)


class _Files(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(404)
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"weights")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def file_server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Files) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


DIGITS = hashlib.sha256(b"weights").hexdigest()[:8]


def _served(server: str, file: str, monkeypatch: pytest.MonkeyPatch) -> BackboneSpec:
    """A spec whose source is `file` on the local server."""
    real = hub._download
    monkeypatch.setattr(hub, "_probe", lambda *_: None)
    monkeypatch.setattr(
        hub, "_download", lambda url, to: real(url.replace("https://host", server), to)
    )
    spec = get_spec("squeezenet1_1")
    return dataclasses.replace(spec, source=f"https://host/{file}", sha256=None)


@pytest.mark.parametrize("file", [f"net-{DIGITS}.pth", "net.pth"])
def test_a_download_lies_in_the_cache(
    file: str, file_server: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = _served(file_server, file, monkeypatch)
    path = hub.fetch(spec)
    assert path == cache / "weights" / file
    assert path.read_bytes() == b"weights"
    monkeypatch.setattr(hub, "_download", lambda *_: pytest.fail("downloaded twice"))
    assert hub.fetch(spec) == path


def test_a_download_is_held_to_its_published_hash(
    file_server: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = _served(file_server, "net-00000000.pth", monkeypatch)
    for spec in (named, dataclasses.replace(named, source="https://host/net.pth", sha256="0" * 64)):
        with pytest.raises(WeightsError, match="damaged"):
            hub.fetch(spec)
    assert list((cache / "weights").iterdir()) == []


def test_any_reply_counts_as_reachable(file_server: str) -> None:
    assert hub.hub_problem(file_server) is None


def test_problems_of_the_hub_in_words(closed_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot be reached" in str(hub.hub_problem())
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert hub.hub_problem() == "HF_HUB_OFFLINE is set"


def test_a_damaged_blob_is_removed(tmp_path: Path) -> None:
    blob = tmp_path / ("0" * 64)
    blob.write_bytes(b"half")
    link = tmp_path / "model.safetensors"
    link.symlink_to(blob)
    with pytest.raises(WeightsError, match="damaged"):
        hub._check_blob(link)
    assert not blob.exists()


def test_registered_sources_can_be_fetched() -> None:
    assert all(spec.source.startswith(("hf:", "https://")) for spec in registry.list_specs())


def test_a_full_disk_is_called_so(
    file_server: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(url: str, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    spec = _served(file_server, "net.pth", monkeypatch)
    monkeypatch.setattr(hub, "_download", full)
    with pytest.raises(NoSpaceError):
        hub.fetch(spec)


@pytest.mark.parametrize("reply", ["broken", "gated", "absent"])
def test_replies_of_the_hub(closed_hub: Path, monkeypatch: pytest.MonkeyPatch, reply: str) -> None:
    class Gated(GatedRepoError):
        def __init__(self) -> None:
            pass

    errors: dict[str, Exception] = {
        "broken": HfHubHTTPError.__bases__[0]("timed out"),
        "gated": Gated(),
        "absent": EntryNotFoundError("absent"),
    }

    def answer(*_: object, **__: object) -> str:
        raise errors[reply]

    monkeypatch.setattr(hub, "_probe", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", answer)
    kind = WeightsError if reply == "absent" else HubUnreachableError
    words = {"broken": "timed out", "gated": "refuses", "absent": "holds none of"}
    with pytest.raises(kind, match=words[reply]):
        hub.fetch(get_spec("vits14"))


def test_weights_that_are_used_are_not_the_longest_unused(
    file_server: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cache prune --older-than` must not take what a run of today has read."""
    spec = _served(file_server, "net.pth", monkeypatch)
    os.utime(hub.fetch(spec), (0, 0))
    day = 86_400.0
    assert surplus(entries(["weights"]), older_than=day)
    hub.fetch(spec)
    assert not surplus(entries(["weights"]), older_than=day)


def test_where_the_weights_of_a_run_lie_stays_known_while_it_is_used(
    cache: Path, shrink: Callable[..., BackboneSpec]
) -> None:
    shrink("vits14")
    path = cache / "mine.pth"
    cache.mkdir()
    torch.save(load_backbone("tiny", weights="random").module.state_dict(), path)
    backbone = load_backbone("tiny", weights=path)
    remember_weights(backbone, str(path))
    (entry,) = entries(["weights"])
    os.utime(entry.path, (0, 0))
    assert load_base(backbone_facts(backbone)).weights.sha256 == backbone.weights.sha256
    assert not surplus(entries(["weights"]), older_than=86_400.0)
