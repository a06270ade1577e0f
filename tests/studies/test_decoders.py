"""What doctor says of decoders is what pydicom can do."""

from __future__ import annotations

from dinorad_rt.studies.decoders import decoder_states


def test_every_syntax_has_a_decoder_with_our_dependencies() -> None:
    states = {state.name: state for state in decoder_states()}
    assert {"JPEG-LS", "JPEG 2000", "HTJ2K", "RLE", "JPEG lossless"} <= set(states)
    for state in states.values():
        assert state.plugins, state
        assert state.install.startswith("pip install")
