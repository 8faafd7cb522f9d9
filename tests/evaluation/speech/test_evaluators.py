"""What the judges are given and how their words are counted; the judges themselves only where they are installed."""

import subprocess
import sys

import numpy as np
import pytest

from vqcli.errors import BadFile, UsageError
from vqcli.evaluation.speech import evaluators

NOISE = (0.01 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)


def test_normalised_text():
    assert evaluators.normalised("Please call Stella.") == "PLEASE CALL STELLA"
    assert evaluators.normalised("“Don’t,” she said; it’s well-known!\n") == "DON'T SHE SAID IT'S WELL KNOWN"
    assert evaluators.normalised("'quoted' words") == "QUOTED WORDS"
    assert evaluators.normalised(" . ") == ""


def test_edit_distance():
    def distance(a, b):
        return evaluators.edit_distance(a.split(), b.split())

    assert distance("a b c", "a b c") == 0
    assert distance("a b c", "a x c") == 1
    assert distance("a b c", "b c") == 1
    assert distance("a b c", "") == distance("", "a b c") == 3
    assert distance("the cat sat on a mat", "a cat sat mat now") == 4  # the -> a, on and a gone, now is new


def test_transcripts(tmp_path):
    path = tmp_path / "clip.txt"
    path.write_text("0 54682 She had your dark suit.\n")  # as TIMIT has it
    assert evaluators.read_transcript(path) == "SHE HAD YOUR DARK SUIT"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadFile, match="not text"):
        evaluators.read_transcript(path)
    path.write_text("word " * 30_000)
    with pytest.raises(BadFile, match="too long"):
        evaluators.read_transcript(path)


def test_the_mean_of_voices_has_length_1():
    voices = [np.array([1, 0], np.float32), np.array([0, 1], np.float32)]
    assert evaluators.mean_embedding(iter(voices)) == pytest.approx([2**-0.5, 2**-0.5])
    with pytest.raises(UsageError, match="no clips"):
        evaluators.mean_embedding([])


@pytest.mark.parametrize("module", evaluators.EXTRA)
def test_a_missing_extra_is_named(module):
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from vqcli.evaluation.speech import evaluators\n"
        "from vqcli.errors import UsageError\n"
        "judge = {'pocketsphinx': evaluators._recogniser, 'resemblyzer': evaluators._voice_encoder,\n"
        f"         'speechmos': evaluators._dnsmos_model}}[{module!r}]\n"
        "try: judge()\nexcept UsageError as error: print(error, error.hint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"not installed ({module})" in done.stdout and "vqcli[evaluators]" in done.stdout


def test_importing_loads_no_judge():
    code = "import sys; from vqcli.evaluation.speech import evaluators; evaluators.available(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {*evaluators.EXTRA, "torch", "librosa"} & set(loaded)


def test_the_recogniser_forgets():
    """What it hears in noise does not hang on what it heard before, nor on the loudness."""
    pytest.importorskip("pocketsphinx")
    first = evaluators.recognise(NOISE)
    evaluators.recognise(NOISE[::-1] * np.linspace(0, 50, len(NOISE)))
    assert evaluators.recognise(NOISE) == first == evaluators.recognise(NOISE / 4)
    assert evaluators.recognise(NOISE[:100]) == ""
    errors, words = evaluators.word_errors(np.zeros(16_000), "three wrong words")
    assert words == 3 and errors >= 2
