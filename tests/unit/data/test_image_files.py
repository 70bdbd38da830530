"""Pictures for `alexnet predict`: every format and mode comes out as 32 × 32 RGB, or is refused by name."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from job.core.exits import Exit, JobError
from job.data.image_files import read_picture, read_pictures

RNG = np.random.default_rng(0)


def test_a_picture_of_the_right_size_is_not_touched(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), pixels)


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "bmp", "webp", "tiff", "ppm"])
def test_formats(ending: str, tmp_path: Path) -> None:
    Image.new("RGB", (90, 70), (200, 40, 40)).save(tmp_path / f"a.{ending}")
    found = read_picture(tmp_path / f"a.{ending}")
    assert found.shape == (32, 32, 3)
    assert found.dtype == np.uint8
    assert np.abs(found.reshape(-1, 3).mean(0) - (200, 40, 40)).max() < 12


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [("L", 100, 100), ("1", 1, 255), ("RGBA", (10, 20, 30, 0), 255), ("RGBA", (80, 80, 80, 255), 80), ("LA", (50, 0), 255), ("P", 0, 0)],
)
def test_modes(mode: str, colour: object, expected: int, tmp_path: Path) -> None:
    """What is transparent lies on white."""
    Image.new(mode, (64, 64), colour).save(tmp_path / "a.png")  # type: ignore[arg-type]
    assert np.unique(read_picture(tmp_path / "a.png")).tolist() == [expected]


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    values = np.full((64, 64), 32768, np.uint16)
    values[0] = 65535
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png")[16, 16].tolist() == [128, 128, 128]


def test_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (40, 40), (0, 0, 0, 255)).save(tmp_path / "a.jpg")
    assert read_picture(tmp_path / "a.jpg").max() < 40


@pytest.mark.parametrize("size", [(96, 32), (32, 96)])
def test_the_square_in_the_middle(size: tuple[int, int], tmp_path: Path) -> None:
    picture = Image.new("RGB", size, "red")
    picture.paste("blue", (32, 0, 64, 32) if size[0] > size[1] else (0, 32, 32, 64))
    picture.save(tmp_path / "a.png")
    assert np.unique(read_picture(tmp_path / "a.png").reshape(-1, 3), axis=0).tolist() == [[0, 0, 255]]


def test_fine_detail_is_averaged(tmp_path: Path) -> None:
    """A picture is filtered before it is scaled: single pixels would show stripes of black or white."""
    stripes = np.zeros((320, 320, 3), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "a.png")
    inner = read_picture(tmp_path / "a.png")[2:-2, 2:-2]
    assert 110 < inner.min() <= inner.max() < 145


def test_the_cameras_orientation(tmp_path: Path) -> None:
    picture = Image.new("RGB", (64, 64), "black")
    picture.paste("white", (0, 0, 64, 32))  # white above
    exif = picture.getexif()
    exif[0x0112] = 3  # turned by 180°
    picture.save(tmp_path / "a.jpg", exif=exif, quality=95)
    found = read_picture(tmp_path / "a.jpg")
    assert found[:8].max() < 40
    assert found[-8:].min() > 215


def test_several(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("L", (8, 9), 100 * number).save(tmp_path / f"{number}.png")
    assert read_pictures(sorted(tmp_path.iterdir()))[:, 0, 0, 0].tolist() == [0, 100, 200]


def test_what_is_no_picture(tmp_path: Path) -> None:
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, code in {
        "cut.png": Exit.DATA,
        "text.png": Exit.DATA,
        "empty.png": Exit.DATA,
        "none.png": Exit.USAGE,
        ".": Exit.USAGE,
    }.items():
        with pytest.raises(JobError, match=str(tmp_path)) as caught:
            read_picture(tmp_path / name)
        assert caught.value.code is code, name


def test_a_picture_that_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.new("1", (100, 100)).save(tmp_path / "bomb.png")
    with pytest.raises(JobError, match="too many pixels"):
        read_picture(tmp_path / "bomb.png")
