"""The page beside exported graphs: what goes in and out, and how to run them from JavaScript and from Python."""

from __future__ import annotations

from collections.abc import Mapping
from string import Template
from typing import Any

PAGE = Template("""# $model for ONNX runtimes

Encoder and decoder of the model `$model` of vq (digest `$digest`), for images, waveforms and codes of any size.
`model.json` says the same as this page, for programs.$licence

$tables
Not in these files: entropy coding, so that `.vqz` files stay for vq to read and write (`vq export` and `vq import` turn
them to codes and back); $missing

## From JavaScript

With [onnxruntime-web](https://www.npmjs.com/package/onnxruntime-web); `codes.json` is from `vq export`. Serve this
folder (`python -m http.server`), as browsers fetch nothing from files.

```html
<!doctype html>
$element
<script type="module">
import * as ort from "https://cdn.jsdelivr.net/npm/onnxruntime-web/dist/ort.min.mjs";

const read = async (name) => (await fetch(name)).json();
const model = await read("model.json");
const decoder = await ort.InferenceSession.create("decoder.onnx");
$javascript</script>
```

## From Python

With onnxruntime and numpy, from what the encoder takes to what the decoder makes of its codes:

```python
import numpy as np
import onnxruntime

$python```
""")

IMAGE_ELEMENT = '<canvas id="canvas"></canvas>'
IMAGE_JAVASCRIPT = """
const { vq, codes } = await read("codes.json");
const shape = [1, model.K.length, codes[0].length, codes[0][0].length];
const numbers = BigInt64Array.from(codes.slice(0, model.K.length).flat(2), BigInt);
const inputs = { codes: new ort.Tensor("int64", numbers, shape) };
if (model.qualities) inputs.quality = new ort.Tensor("float32", [vq.quality / 10], [1]);
const { image } = await decoder.run(inputs);

const [, channels, height, width] = image.dims, [low, high] = model.range, area = width * height;
const pixels = new ImageData(width, height);
for (let place = 0; place < area; place++) {
  for (let colour = 0; colour < 3; colour++) {
    const value = image.data[(channels === 1 ? 0 : colour) * area + place];
    pixels.data[4 * place + colour] = (255 * (value - low)) / (high - low);
  }
  pixels.data[4 * place + 3] = 255;
}
const canvas = document.getElementById("canvas");
[canvas.width, canvas.height] = vq.size; // the last positions reach over the edge
canvas.getContext("2d").putImageData(pixels, 0, 0);
"""
IMAGE_PYTHON = """encoder, decoder = (onnxruntime.InferenceSession(f"{name}.onnx") for name in ("encoder", "decoder"))
image = np.full((1, $channels, 4 * $stride, 6 * $stride), $low, np.float32)  # height and width are multiples of $stride
known = {$quality}
(codes,) = encoder.run(None, {"image": image, **known})  # int64 [1, $n, 4, 6]
(again,) = decoder.run(None, {"codes": codes, **known})
pixels = np.rint((again - $low) / ($high - $low) * 255).clip(0, 255).astype(np.uint8)
"""

AUDIO_ELEMENT = '<button id="play">play</button>'
AUDIO_JAVASCRIPT = """
const { vq, codes } = await read("codes.json");
const positions = codes[0].length;
const numbers = BigInt64Array.from(codes.slice(0, model.K.length).flat(), BigInt); // of the first channel
const inputs = { codes: new ort.Tensor("int64", numbers, [1, model.K.length, positions]) };
$inputs
const { wave } = await decoder.run(inputs);
const length = Math.round((vq.samples * model.rate_hz) / vq.rate_hz); // the last position reaches over the end
$scaled
document.getElementById("play").onclick = () => {
  const context = new AudioContext();
  const buffer = context.createBuffer(1, samples.length, model.rate_hz);
  buffer.copyToChannel(samples, 0);
  const source = new AudioBufferSourceNode(context, { buffer });
  source.connect(context.destination);
  source.start();
};
"""
NOISE_JAVASCRIPT = """const radius = () => Math.sqrt(-2 * Math.log(1 - Math.random()));
const normal = () => radius() * Math.cos(2 * Math.PI * Math.random());
const noise = Float32Array.from({ length: $noise * positions }, normal);
inputs.noise = new ort.Tensor("float32", noise, [1, noise.length]);
"""
VOICE_JAVASCRIPT = """// two values a byte, then the pitch
const stored = Array.from(atob(vq.voice[0]), (byte) => byte.charCodeAt(0));
const values = stored.slice(0, -1).flatMap((byte) => [byte >> 4, byte & 15]).map((step) => (2 * step) / 15 - 1);
inputs.voice = new ort.Tensor("float32", values, [1, values.length]);
const step = Math.log($highest / $lowest) / $steps; // between two pitch codes, in ln(Hz)
inputs.register = new ort.Tensor("float32", [Math.log($lowest) + (stored.at(-1) - 1) * step], [1]);
"""
PLAIN = "const samples = wave.data.subarray(0, length);"
LOUD = """const gain = 10 ** ((vq.loudness_db[0] - model.level_db) / 20);
const samples = wave.data.subarray(0, length).map((sample) => gain * sample);"""
AUDIO_PYTHON = """encoder, decoder = (onnxruntime.InferenceSession(f"{name}.onnx") for name in ("encoder", "decoder"))
P = 50  # positions of $stride samples
inputs = {"wave": 0.1 * np.random.randn($wave).astype(np.float32)$pitch}
made = dict(zip((port.name for port in encoder.get_outputs()), encoder.run(None, inputs)))
codes = made["codes"]  # int64 [1, $n, P]
$noise(wave,) = decoder.run(None, made)  # $rate_hz Hz
"""


def page(facts: Mapping[str, Any]) -> str:
    """README.md for what model.json says."""
    image = facts["modality"] == "image"
    licence = f"\n\nLicence of the weights: {facts['licence']}." if "licence" in facts else ""
    missing = "the tiles that vq cuts large images into." if image else "the windows that vq cuts long recordings into."
    return PAGE.substitute(
        facts,
        licence=licence,
        tables="\n".join(_table(name, facts[name]) for name in ("encoder", "decoder")),
        missing=missing,
        element=IMAGE_ELEMENT if image else AUDIO_ELEMENT,
        javascript=IMAGE_JAVASCRIPT if image else _audio_javascript(facts),
        python=_image_python(facts) if image else _audio_python(facts),
    )


def _table(name: str, graph: Mapping[str, Any]) -> str:
    rows = [
        f"| {place} | `{port['name']}` | {port['type']} {' x '.join(map(str, port['shape']))} | {port['about']} |"
        for place, ports in (("in", graph["inputs"]), ("out", graph["outputs"]))
        for port in ports
    ]
    head = [f"**`{graph['file']}`**. {graph['about']}", "", "| | name | type and shape | what |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, ""])


def _image_python(facts: Mapping[str, Any]) -> str:
    low, high = facts["range"]
    quality = f'"quality": np.array([{(facts["qualities"] + 1) // 2}], np.float32)' if facts["qualities"] else ""
    return Template(IMAGE_PYTHON).substitute(facts, low=low, high=high, quality=quality, n=len(facts["K"]))


def _inputs(facts: Mapping[str, Any], graph: str) -> dict[str, Mapping[str, Any]]:
    return {port["name"]: port for port in facts[graph]["inputs"]}


def _audio_javascript(facts: Mapping[str, Any]) -> str:
    from vqcli.media import pitch

    ports, inputs = _inputs(facts, "decoder"), ""
    if "voice" in ports:
        numbers = {"lowest": pitch.LOWEST_HZ, "highest": pitch.HIGHEST_HZ, "steps": pitch.PITCHES - 2}
        inputs += Template(VOICE_JAVASCRIPT).substitute(numbers)
    if "noise" in ports:
        inputs += Template(NOISE_JAVASCRIPT).substitute(noise=_times(ports["noise"]))
    scaled = PLAIN if facts["level_db"] is None else LOUD
    return Template(AUDIO_JAVASCRIPT).substitute(inputs=inputs.rstrip(), scaled=scaled).replace("\n\n", "\n")


def _audio_python(facts: Mapping[str, Any]) -> str:
    ports, noise = _inputs(facts, "decoder"), ""
    if "noise" in ports:
        noise = f'made["noise"] = np.random.randn(1, {_times(ports["noise"])} * P).astype(np.float32)\n'
    pitch = _inputs(facts, "encoder").get("pitch")
    return Template(AUDIO_PYTHON).substitute(
        facts,
        n=len(facts["K"]),
        wave=", ".join(map(str, [1] * (len(_inputs(facts, "encoder")["wave"]["shape"]) - 1)))
        + f", {facts['stride']} * P",
        pitch=f', "pitch": np.zeros((1, {_times(pitch)} * P), np.int64)' if pitch else "",
        noise=noise,
    )


def _times(port: Mapping[str, Any]) -> str:
    """By how much the length of a port is more than the number of positions."""
    return port["shape"][-1].partition(" * ")[0] if " * " in port["shape"][-1] else "1"
