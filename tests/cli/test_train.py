from pathlib import Path

from tests.training.test_training import VECTOR
from vqcli.media import image


def test_a_model_from_a_folder(vq, picture):
    Path("pictures").mkdir()
    for number in range(3):
        image.write(Path(f"pictures/{number}.png"), picture(40 + number, 40))
    Path("tiny.toml").write_bytes(VECTOR.replace(b"steps = 60", b"steps = 4"))
    result = vq("train", "tiny.toml", "pictures", "-o", "mine", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert vq("encode", "pictures/0.png", "--model", "./mine").exit_code == 0
    assert vq("decode", "pictures/0.vqz", "--model", "./mine", "-o", "back.png").exit_code == 0
    again = vq("train", "tiny.toml", "pictures", "-o", "mine")
    assert again.exit_code == 2 and "holds a run already" in again.stderr
    assert vq("train", "tiny.toml", "pictures", "-o", "mine", "--resume").exit_code == 0
    assert vq("train", "fotto", "pictures", "-o", "other").exit_code == 2
    assert vq("train", "tiny.toml", "pictures", "-o", "other", "--budget", "long").exit_code == 2
