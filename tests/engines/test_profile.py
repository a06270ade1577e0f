"""Profiles: shipped ones load, bad ones are refused with the value in the message."""

from __future__ import annotations

from pathlib import Path

import pytest

from dinorad_rt.engines.profile import Profile, list_profiles, load_profile
from dinorad_rt.errors import EngineError, UnknownNameError


def test_every_shipped_profile_loads_and_says_what_it_is_for() -> None:
    profiles = list_profiles()
    assert {"default", "latency", "throughput"} <= {profile.name for profile in profiles}
    for profile in profiles:
        assert profile.about
        assert load_profile(profile.name) == profile


def test_default_has_a_fixed_batch_and_leaves_streams_to_the_backend() -> None:
    profile = load_profile()
    assert (profile.batch, profile.buckets, profile.streams) == (8, (8,), 0)


def test_unknown_name_gives_the_closest() -> None:
    with pytest.raises(UnknownNameError, match="Closest: latency"):
        load_profile("latencyy")


def test_users_own_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("batch = 3\n[options.tensorrt-rtx]\nlevel = 4\n", encoding="utf-8")
    profile = load_profile(str(path))
    assert (profile.name, profile.batch) == ("mine", 3)
    assert profile.options_for("tensorrt_rtx") == {"level": 4}
    assert profile.options_for("openvino") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch = 0", "batch = 0"),
        ("batch = 2.5", "batch = 2.5"),
        ("batch = true", "batch = True"),
        ("streams = -1", "streams = -1"),
        ("buckets = [8, 4]", r"buckets = \[8, 4\]"),
        ("batch = 4\nbuckets = [1, 8]", "with batch = 4"),
        ("batchsize = 8", "holds batchsize"),
        ("options = 3", "options that are no tables"),
        ("[options.tensorr]\nlevel = 3", "options for tensorr, which is no backend"),
        ("batch = ", "no valid TOML"),
    ],
)
def test_bad_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(EngineError, match=message):
        load_profile(str(path))


def test_only_a_backends_own_options_reach_it() -> None:
    profile = Profile("p", options={"openvino": {"a": 1}, "tensorrt": {"b": 2}})
    assert profile.as_dict("openvino")["options"] == {"openvino": {"a": 1}}


def test_a_profile_that_does_not_fit_the_graph_is_refused() -> None:
    from types import SimpleNamespace
    from typing import Any

    from dinorad_rt.runners import openvino

    graph: Any = SimpleNamespace(precision="fp32", model="m", manifest={})
    for hint, message in (("bf16", "the graph of m is fp32"), ("bf61", "precision_hint = 'bf61'")):
        profile = Profile("p", options={"openvino": {"precision_hint": hint}})
        with pytest.raises(EngineError, match=message):
            openvino.plan(graph, profile)
