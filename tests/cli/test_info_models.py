import json
from pathlib import Path


def test_info_of_a_file(vq, photo):
    vq("encode", photo, "--model", "scalar", "-o", "a.vqz")
    facts = json.loads(vq("info", "a.vqz", "--json").stdout)
    assert (facts["width"], facts["height"], facts["channels"]) == (50, 38, 3)
    assert facts["model"] == "scalar" and facts["grid"] == [10, 13] and facts["groups"] == 3
    assert facts["size_bytes"] == Path("a.vqz").stat().st_size
    assert facts["overhead_bytes"] <= 64 + 4  # three different codebooks take two runs more than one
    assert "bits per pixel" in vq("info", "a.vqz").stdout


def test_info_of_a_model(vq):
    facts = json.loads(vq("info", "vector", "--json").stdout)
    assert facts["model"] == "vector" and len(facts["digest"]) == 16
    assert vq("info", "no-such").exit_code == 4
    assert vq("info", "none.vqz").exit_code == 3


def test_metadata_cannot_steer_the_terminal(vq, photo, scalar_model):
    import vqcli
    from vqcli.media import image

    encoded = vqcli.encode(image.read(photo).pixels, scalar_model, metadata={"title": "\x1b[31mred"})
    encoded.save("m.vqz")
    shown = vq("info", "m.vqz").stdout
    assert "\x1b" not in shown and "\\x1b[31mred" in shown


def test_models(vq, scalar_model):
    listed = vq("models")
    assert listed.exit_code == 0 and "scalar" in listed.stdout and "vector" in listed.stdout
    names = {model["model"] for model in json.loads(vq("models", "list", "--json").stdout)}
    assert {"scalar", "vector"} <= names
    assert vq("models", "path", "scalar").stdout.strip() == str(scalar_model.info.folder)
    assert json.loads(vq("models", "show", "scalar", "--json").stdout)["family"] == "vqvae2d"
    assert vq("models", "show", "sclar").exit_code == 4


def test_models_export(vq, home):
    run = vq("models", "export", "vector", "-o", "out", "--levels", "2", "--json")
    assert run.exit_code == 0, run.stderr
    encoder, decoder = json.loads(run.stdout)
    assert encoder["equal_codes"] >= 0.999 and decoder["largest_relative_difference"] < 1e-4
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "README.md",
        "decoder.onnx",
        "encoder.onnx",
        "model.json",
    ]
    assert encoder["bytes"] == Path(encoder["file"]).stat().st_size
    assert vq("models", "export", "vector", "-o", "out").exit_code == 2  # never over files unasked
    assert "not exported as tflite" in vq("models", "export", "vector", "--format", "tflite").stderr
