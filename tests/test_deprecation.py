"""Old names of the Python API: they work, and say what to write instead."""

from __future__ import annotations

import numpy as np
import pytest

import vqcli


def test_the_old_name_of_a_callback(scalar_model, picture, tmp_path):
    shares: list[float] = []
    with pytest.warns(DeprecationWarning, match=r"report= of encode\(\) is now progress="):
        encoded = vqcli.encode(picture(40, 50), scalar_model, report=shares.append)
    assert shares and shares[-1] == pytest.approx(1.0)
    encoded.save(tmp_path / "a.vqz")
    counts = len(shares)
    with pytest.warns(DeprecationWarning, match=r"report= of decode\(\) is now progress="):
        decoded = vqcli.decode(tmp_path / "a.vqz", scalar_model, report=shares.append)
    assert len(shares) > counts and decoded.pixels.shape == (40, 50, 3)


def test_old_names_of_attributes(scalar_model):
    with pytest.warns(DeprecationWarning, match=r"LoadedModel.exact is now .entropy_model"):
        assert scalar_model.exact is scalar_model.entropy_model
    frames = [np.zeros((16, 16, 3), np.uint8)] * 2
    encoded = vqcli.encode(np.stack(frames), scalar_model, frames_per_s=5.0)
    assert isinstance(encoded, vqcli.EncodedVideo)
    with pytest.warns(DeprecationWarning, match=r"EncodedVideo.frames is now .n_frames"):
        assert encoded.frames == encoded.n_frames == 2
    decoded = vqcli.decode(encoded, scalar_model)
    assert isinstance(decoded, vqcli.DecodedVideo)
    with pytest.warns(DeprecationWarning, match=r"DecodedVideo.count is now .n_frames"):
        assert decoded.count == 2
    with pytest.warns(DeprecationWarning, match=r"DecodedVideo.rate_mhz is now .frames_per_1000s"):
        assert decoded.rate_mhz == decoded.frames_per_1000s == 5000
