"""The palette of a comparison, measured."""

from itertools import combinations

from job.figures.style import SIDES, side_style


def lightness(colour: str) -> float:
    """CIE L* of an sRGB colour, 0 to 100: all that is left of it in grey (CIE 15:2004; IEC 61966-2-1)."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 116 * luminance ** (1 / 3) - 16


def test_sides_are_told_apart_in_grey():
    shades = [lightness(side.colour) for side in SIDES]
    assert abs(shades[0] - shades[1]) > 30  # two sides: the usual case
    assert min(abs(a - b) for a, b in combinations(shades[:4], 2)) > 9.5
    assert min(abs(a - b) for a, b in combinations(shades, 2)) > 9
    assert max(shades) < 80, "too pale for white paper"


def test_sides_differ_in_dash_and_marker_as_well():
    for part in ("dash", "marker"):
        assert len({getattr(side, part) for side in SIDES}) == len(SIDES)


def test_more_sides_than_colours_are_still_told_apart():
    styles = [side_style(number) for number in range(30)]
    assert styles[: len(SIDES)] == list(SIDES)
    assert len(set(styles)) == 30
