"""A short form of tests/fuzz_explore.py."""

import pytest

from tests import fuzz_explore
from vqcli import api


@pytest.mark.fault("22 uploads")
def test_hostile_files_and_calls(client, scalar_model, vector_model, picture, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    samples = {
        model.info.name: (model, api.encode(picture(20, 24), model).data) for model in (scalar_model, vector_model)
    }
    media = {kind: data for kind, data in fuzz_explore.small_media().items() if kind in ("png", "webp", "clip gif")}
    tally = fuzz_explore.fuzz(client, samples, media, 25, 0)
    assert tally.total() == 25 and {"codes", "media"} <= {kind for kind, _ in tally}
    assert "Traceback" not in capfd.readouterr().err and not [*tmp_path.iterdir()]
