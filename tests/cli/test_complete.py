"""What shells offer, and pages of manual."""

import subprocess
import sys

import pytest
import typer

from vqcli.cli import manual
from vqcli.cli.main import app

COMPLETE = (
    "import os, sys; os.environ.update(_VQ_COMPLETE='complete_bash', COMP_WORDS=sys.argv[1], COMP_CWORD=sys.argv[2])\n"
    "sys.argv = ['vq']\nfrom vqcli.cli.main import main\n"
    "try:\n    main()\nexcept SystemExit:\n    pass\n"
    "assert not {'torch', 'numba', 'numpy', 'PIL'} & set(sys.modules)"
)


@pytest.fixture
def offered(vq):
    def values(*words):
        line = " ".join(["vq", *words])
        environment = {"_VQ_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
        return vq(env=environment, prog_name="vq").stdout.split()

    return values


def test_models_folders_and_words_are_offered(offered, home):
    assert {"scalar", "vector"} <= set(offered("encode", "--model", ""))
    assert offered("encode", "--model", "scal") == ["scalar"]
    (home / "mine" / "best").mkdir(parents=True)
    (home / "mine" / "best" / "model.safetensors").touch()
    assert offered("decode", "--model", "mi") == ["mine/"]
    assert offered("decode", "--model", "./mine/b") == ["./mine/best"]
    assert offered("encode", "--coder", "p") == ["packed", "prior"]
    assert offered("decode", "--format", "w") == ["wav", "webp"]
    assert offered("export", "--format", "np") == ["npy", "npz"]
    assert offered("train", "cifar10-v") == ["cifar10-vae", "cifar10-vimco", "cifar10-vimco-gaussian", "cifar10-vqvae"]


def test_classes_and_voices_are_offered_without_torch(offered):
    assert offered("sample", "--model", "cifar10", "--class", "a") == ["airplane", "automobile"]
    assert offered("convert-speaker", "a.wav", "--to", "p22") == ["p225", "p226", "p227", "p228", "p229"]
    subprocess.run([sys.executable, "-c", COMPLETE, "vq sample --class fo", "3"], check=True)


def test_every_command_has_a_page_of_manual(vq, home):
    assert vq("man", "pages").exit_code == 0
    written = {path.name: path.read_text() for path in (home / "pages").iterdir()}
    assert written == dict(manual.pages(typer.main.get_command(app)))
    assert {"vq.1", "vq-encode.1", "vq-models-show.1", "vq-eval-rd.1"} <= written.keys()
    assert "vq-man.1" not in written
    page = written["vq-decode.1"]
    assert page.startswith('.TH "VQ\\-DECODE" "1"')
    assert "\n.TP\n\\fB\\-o, \\-\\-output PATH\\fR\nWhere the result goes" in page
    assert ".SH EXAMPLES\n.nf\nvq decode photo.vqz\n" in page


def test_roff_prints_text_as_it_is():
    assert manual._plain(".vqz, a\\b --x") == "\\&.vqz, a\\eb \\-\\-x"
