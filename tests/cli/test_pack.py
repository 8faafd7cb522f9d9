from pathlib import Path

from vqcli.data.sources import open_source
from vqcli.media import image


def test_packing_folders(vq, picture):
    for number in range(3):
        path = Path(f"pictures/{'ab'[number % 2]}/{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        image.write(path, picture(40, 50))
    for number in range(12):
        Path(f"pictures/a/broken{number:02d}.png").write_bytes(b"")
    result = vq("pack", "pictures", "-o", "all.safetensors", "--size", "20")
    assert result.exit_code == 0, result.stderr
    assert "all.safetensors: 3 images in 2 classes, " in result.stderr
    assert "12 images left out:" in result.stderr and "and 2 more" in result.stderr
    assert "broken09.png is an empty file" in result.stderr and "broken10" not in result.stderr
    assert open_source(Path("all.safetensors")).read(2).shape == (20, 25, 3)

    again = vq("pack", "pictures/a", "-o", "all.safetensors")
    assert again.exit_code == 2 and "--force" in again.stderr
    assert vq("pack", "pictures/a", "-o", "all.safetensors", "--force").exit_code == 0
    assert len(open_source(Path("all.safetensors")).names) == 2
    assert vq("pack", "none", "-o", "b.safetensors").exit_code == 2
    assert vq("pack", "pictures", "-o", "b.tar").exit_code == 2
    assert not Path("b.safetensors").exists()
