"""Rounding that does not change what a number says."""

from job.analysis.formatting import interval_text, p_text, points


def test_what_is_not_zero_does_not_look_like_zero():
    assert [points(share) for share in (0.0, 1e-17, 0.012, -0.0123, 0.0004, -0.00001)] == ["0.0", "0.0", "+1.2", "−1.2", "+0.04", "−0.001"]
    assert interval_text(0.0002, 0.0123) == ("+0.02", "+1.23")
    assert interval_text(0.0, 0.0012) == ("0.0", "+0.1")
    assert interval_text(-0.01, 0.02) == ("−1.0", "+2.0")


def test_a_p_is_not_rounded_onto_the_level():
    assert [p_text(p) for p in (0.0499, 0.04996, 0.0502, 0.05, 0.5, 0.0004)] == [
        *("p = 0.0499", "p = 0.04996", "p = 0.0502", "p = 0.050", "p = 0.50", "p < 0.001")
    ]
