"""Pictures of any format that Pillow reads, as the network wants them: 32 × 32 pixels, RGB."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.core.exits import Exit, JobError

SIDE = 32


def read_pictures(paths: Sequence[Path]) -> NDArray[np.uint8]:
    """(N, 32, 32, 3): of each picture the largest square in the middle, upright, on white where it is transparent, scaled with a filter.

    Raises JobError, naming the file: USAGE where there is none, DATA for what is no picture.
    """
    return np.stack([read_picture(path) for path in paths])


def read_picture(path: Path) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture)
            square = ImageOps.fit(_rgb(upright), (SIDE, SIDE), Image.Resampling.BICUBIC)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise JobError(Exit.USAGE, f"{path}: {error.strerror}. Expected a picture, such as a PNG or JPEG file.") from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:  # Pillow's ways to say that it is damaged
        why = (
            "too many pixels" if isinstance(error, Image.DecompressionBombError) else "not a picture that Pillow can read, or a damaged one"
        )
        raise JobError(Exit.DATA, f"{path}: {why}. Expected a PNG, JPEG or another common format.") from None
    return np.asarray(square, np.uint8)


def _rgb(picture: Any) -> Any:
    """8 bits for each of red, green and blue.  Pillow by itself would clip 16 bits to white and drop transparency."""
    from PIL import Image

    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture, np.float64)
        greatest = 65535.0 if values.max(initial=0) > 255 else 255.0
        picture = Image.fromarray((values.clip(0, greatest) * (255 / greatest)).round().astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")
