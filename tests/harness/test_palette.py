"""Every line can be seen on white, and told from the others, by colour-blind readers too."""

import itertools

import numpy as np
import pytest

from trainopt.harness.names import OPTIMIZERS
from trainopt.harness.palette import LEADING, MOST, PALETTE, SYMBOLS, VERDICTS, at_most

# What a missing kind of cone makes of linear RGB (Machado, Oliveira and Fernandes 2009).
VISIONS = {
    "normal": np.eye(3),
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
}


def linear(colour):
    part = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def contrast(colour):
    """Against white, as WCAG 2 defines it."""
    return 1.05 / (linear(colour) @ [0.2126, 0.7152, 0.0722] + 0.05)


def lab(colour, vision):
    to_xyz = [[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]]
    xyz = to_xyz @ np.clip(np.asarray(VISIONS[vision]) @ linear(colour), 0, 1)
    x, y, z = np.cbrt(xyz / [0.9505, 1, 1.0888])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_the_formulas():
    assert contrast("#FFFFFF") == pytest.approx(1)
    assert contrast("#000000") == pytest.approx(21)
    assert contrast("#767676") == pytest.approx(4.54, abs=0.01)  # the textbook's grey


def test_every_colour_has_contrast():
    for style in PALETTE.values():
        assert contrast(style.colour) >= 3, style
    for colour, _, _ in VERDICTS.values():
        assert contrast(colour) >= 3


@pytest.mark.parametrize("vision", VISIONS)
def test_the_leading_ones_are_apart(vision):
    # ADAM and AdamW, which no study has both of among its first, may be closer.
    for one, other in itertools.combinations(LEADING, 2):
        a, b = (PALETTE[name] for name in (one, other))
        apart = np.linalg.norm(lab(a.colour, vision) - lab(b.colour, vision))
        assert apart >= 10 or a.marker != b.marker, (one, other, apart)
    colours = [lab(PALETTE[name].colour, vision) for name in LEADING if name != "adamw"]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(colours, 2)) >= 10


def test_no_two_look_the_same():
    looks = [(style.colour, style.dash, style.marker) for style in PALETTE.values()]
    assert len(set(looks)) == len(looks)
    assert all(style.marker in SYMBOLS for style in PALETTE.values())


def test_it_has_everything_that_can_be_run():
    assert set(OPTIMIZERS) <= set(PALETTE)
    titles = [style.title for style in PALETTE.values()]
    assert len(set(titles)) == len(titles)


def test_a_picture_has_few_lines_the_leading_and_the_best():
    ends = {name: float(i) for i, name in enumerate(reversed(PALETTE))}
    shown = at_most(PALETTE, ends)
    assert len(shown) == MOST
    assert set(LEADING) <= set(shown)
    few = at_most(["sgd", "lbfgs", "full", "rmsprop"], {"lbfgs": 1.0, "sgd": 2.0}, most=3)
    assert few == ["full", "sgd", "lbfgs"]
