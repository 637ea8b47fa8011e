"""What corruptions do to pixels, held against their definitions."""

import numpy as np
import pytest

from robsweep.tasks.catalogue.corruptions import CIFAR_C, CIFAR_C_EXTRA, CORRUPTIONS, MNIST_C
from robsweep.tasks.shift.affine import placed, rotate_by, translate_by, turn
from robsweep.tasks.shift.blur import smeared, zoomed
from robsweep.tasks.shift.clouds import plasma
from robsweep.tasks.shift.corrupt import corrupt
from robsweep.tasks.shift.edges import canny
from robsweep.tasks.shift.lines import dotted_line, stripe, zigzag
from tests.tasks.shift.drawings import drawings

GREY, COLOUR = (1, 28, 28), (3, 32, 32)


def plain(value, shape, count=40):
    return np.full((count, *shape), value, dtype=np.float32)


def randoms(count, seed=0):
    return [np.random.default_rng([seed, i]) for i in range(count)]


def corrupted(name, images, severity):
    from torch import from_numpy

    return corrupt(name, from_numpy(images), severity, {}, 0, range(len(images))).numpy()


NOISES = [
    ("shot_noise", GREY, 0.3, lambda s: 0.3 / (60, 25, 12, 5, 3)[s - 1]),
    ("shot_noise", COLOUR, 0.3, lambda s: 0.3 / (500, 250, 100, 75, 50)[s - 1]),
    ("speckle_noise", GREY, 0.3, lambda s: (0.3 * (0.15, 0.2, 0.35, 0.45, 0.6)[s - 1]) ** 2),
    ("speckle_noise", COLOUR, 0.3, lambda s: (0.3 * (0.06, 0.1, 0.12, 0.16, 0.2)[s - 1]) ** 2),
    ("cifar_gaussian_noise", COLOUR, 0.5, lambda s: (0.04, 0.06, 0.08, 0.09, 0.1)[s - 1] ** 2),
]


@pytest.mark.parametrize(("name", "shape", "value", "variance"), NOISES)
def test_noise_has_the_mean_and_variance_of_its_definition(name, shape, value, variance):
    for severity in (1, 2, 3):  # beyond, clipping to [0, 1] shows
        noisy = corrupted(name, plain(value, shape), severity).astype(np.float64)
        wanted = variance(severity)
        assert noisy.mean() == pytest.approx(value, abs=5 * np.sqrt(wanted / noisy.size))
        assert noisy.var() == pytest.approx(wanted, rel=0.05)


def test_shot_noise_counts_photons():
    counts = corrupted("shot_noise", plain(0.5, GREY), 2) * 25
    np.testing.assert_allclose(counts, counts.round(), atol=1e-4)
    assert not corrupted("shot_noise", plain(0, GREY), 5).any()


@pytest.mark.parametrize(
    ("shape", "shares"),
    [(GREY, (0.03, 0.06, 0.09, 0.17, 0.27)), (COLOUR, (0.01, 0.02, 0.03, 0.05, 0.07))],
)
def test_impulses_are_as_many_as_said_and_half_of_them_white(shape, shares):
    before = np.zeros(0)
    for severity, share in enumerate(shares, start=1):
        noisy = corrupted("impulse_noise", plain(0.4, shape), severity)
        white, black = (noisy == 1).mean(), (noisy == 0).mean()
        error = 5 * np.sqrt(share / noisy.size)
        assert white + black == pytest.approx(share, abs=error)
        assert white == pytest.approx(share / 2, abs=error)
        assert ((noisy == 1) | (noisy == 0) | (noisy == np.float32(0.4))).all()
        hit = np.flatnonzero(noisy != np.float32(0.4))
        assert np.isin(before, hit).all()  # a higher severity hits more, and the same
        before = hit


SMOOTH = ("motion_blur", "gaussian_blur", "defocus_blur", "zoom_blur", "pixelate")


@pytest.mark.parametrize("shape", [GREY, COLOUR, (1, 8, 8)])
@pytest.mark.parametrize("name", SMOOTH)
def test_what_averages_leaves_a_plain_image_plain(name, shape):
    for severity in range(1, 6):
        np.testing.assert_allclose(
            corrupted(name, plain(0.3, shape, 2), severity), np.float32(0.3), atol=1e-6
        )


def test_glass_moves_pixels_no_farther_than_it_reaches():
    image = np.zeros((200, *COLOUR), dtype=np.float32)
    image[:, :, 16, 16] = 1
    blurred = corrupted("glass_blur", image, 1)  # next to no blur, one pixel far, one round
    rows, columns = np.nonzero(blurred.max(axis=(0, 1)) > 0.5)
    assert len(rows) > 1
    assert {*rows, *columns} <= {15, 16, 17, 18}
    np.testing.assert_allclose(corrupted("glass_blur", plain(102 / 255, GREY, 2), 5), 0.4)


def test_a_smear_spreads_a_point_by_half_a_gaussian():
    image = np.zeros((3, 1, 31, 31))
    image[:, :, 15, 15] = 1
    weights = np.exp(-(np.arange(13) ** 2) / (2 * 3.0**2))
    weights /= weights.sum()
    blurred = smeared(image, 6, 3.0, np.array([0.0, 90.0, -90.0]))
    np.testing.assert_allclose(blurred[0, 0, 15, 15:2:-1], weights)  # from the right
    np.testing.assert_allclose(blurred[1, 0, 15:2:-1, 15], weights)
    np.testing.assert_allclose(blurred[2, 0, 15:28, 15], weights)
    np.testing.assert_allclose(blurred.sum(axis=(1, 2, 3)), 1)


def test_a_zoom_keeps_the_middle_and_what_is_linear():
    ramp = np.broadcast_to(np.linspace(0, 1, 32), (1, 1, 32, 32))
    once = zoomed(ramp, 1.0)
    np.testing.assert_allclose(once, ramp)
    for factor in (1.1, 1.25, 2.0):
        larger = zoomed(ramp, factor)
        slopes = np.diff(larger[0, 0], axis=1)
        assert slopes.min() == pytest.approx(slopes.max())
        assert slopes[0, 0] == pytest.approx(1 / 31 / factor, rel=0.05)
        assert larger.mean() == pytest.approx(0.5, abs=0.03)


def test_a_quarter_turn_is_numpys():
    images = drawings(3, GREY).numpy()
    quarter = placed(images, turn(np.full(3, np.pi / 2)))
    same = [np.abs(quarter - np.rot90(images, k, axes=(2, 3))).max() < 1e-6 for k in (1, 3)]
    assert sorted(same) == [False, True]
    back = placed(quarter.astype(np.float32), turn(np.full(3, -np.pi / 2)))
    np.testing.assert_allclose(back, images, atol=1e-6)


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_a_ramp_is_moved_as_the_published_matrices_say(severity):
    """Bilinear interpolation is exact on it, as far as nothing comes in from outside."""
    across, down = np.meshgrid(np.arange(28.0), np.arange(28.0))
    ramp = ((0.3 + 0.01 * across + 0.005 * down).astype(np.float32))[None, None].repeat(6, 0)
    angle = 0.2 * severity
    x, y = across - 13.5, down - 13.5
    near = np.hypot(x, y) < 6
    wanted = {
        "shear": [(x - s * np.sin(angle) * y, np.cos(angle) * y) for s in (1, -1)],
        "rotate": [
            (np.cos(angle) * x - s * np.sin(angle) * y, s * np.sin(angle) * x + np.cos(angle) * y)
            for s in (1, -1)
        ],
        "scale": [(x / (1 - severity / 10), y / (1 - severity / 10))],
        "translate": [(x + i * severity, y + j * severity) for i in (1, -1) for j in (1, -1)],
    }
    for name, places in wanted.items():
        found = set()
        for image in corrupted(name, ramp, severity)[:, 0]:
            errors = [
                np.abs(image - (0.3 + 0.01 * (u + 13.5) + 0.005 * (v + 13.5)))[near].max()
                for u, v in places
            ]
            assert min(errors) < 1e-5
            found.add(int(np.argmin(errors)))
        assert len(found) == 1 if name == "scale" else len(found) > 1


def test_points_of_a_grid_are_where_they_are_said_to_be():
    images = drawings(3, GREY).numpy()
    quarter = rotate_by(images, 1, [], degrees=90)
    np.testing.assert_allclose(quarter, np.rot90(images, axes=(2, 3)), atol=1e-6)
    moved = translate_by(images, 1, [], dx=3, dy=-2)
    np.testing.assert_allclose(moved[..., :-2, 3:], images[..., 2:, :-3], atol=1e-6)
    assert not moved[..., -2:, :].any()
    assert not moved[..., :3].any()
    both = rotate_by(images, 1, [], degrees=90, dx=3, dy=-2)
    np.testing.assert_allclose(both, translate_by(quarter, 1, [], dx=3, dy=-2), atol=1e-6)
    np.testing.assert_allclose(rotate_by(images, 1, [], degrees=0), images, atol=1e-7)
    half = translate_by(images, 1, [], dx=0.5)
    np.testing.assert_allclose(half[..., 1:], (images[..., 1:] + images[..., :-1]) / 2, atol=1e-6)


def test_stripes_are_inverted_columns():
    images = drawings(2, GREY).numpy()
    for severity, columns in enumerate((3, 5, 7, 9, 11), start=1):
        striped = stripe(images, severity, [])
        middle = slice(columns, 28 - columns)
        np.testing.assert_array_equal(striped[..., middle], images[..., middle])
        for beside in (slice(columns), slice(28 - columns, None)):
            np.testing.assert_allclose(striped[..., beside], 1 - images[..., beside])


def test_lines_are_where_they_are_said_to_be():
    black = np.zeros((20, *GREY), dtype=np.float32)
    dotted = dotted_line(black, 1, randoms(20))[:, 0]
    inked = dotted.max(axis=1) > 0.4  # (20, 28) columns
    assert (inked == ((np.arange(28) // 2) % 2 == 1)).all(axis=0)[:27].all()
    assert not dotted[:, :, 27].any()
    zig = zigzag(black, 1, randoms(20))[:, 0]
    # one that begins at the border may swing out of the image
    assert ((zig.max(axis=1) > 0.4)[:, 4:23].mean(axis=0) > 0.7).all()
    assert not zig[:, :, 27].any()
    for draw in (dotted_line, zigzag):
        for severity in range(2, 6):
            more, fewer = (draw(black, k, randoms(20)) for k in (severity, severity - 1))
            assert (more >= fewer).all()
            assert more.sum() > fewer.sum()


def test_edges_are_those_of_a_square():
    image = np.zeros((1, 28, 28))
    image[:, 8:20, 8:20] = 1
    rows, columns = np.nonzero(canny(image, 1.0)[0])
    assert len(rows) > 40
    off = np.maximum(np.abs(rows - 13.5), np.abs(columns - 13.5))
    assert off.min() >= 4.5
    assert off.max() <= 6.5
    assert not canny(np.full((1, 28, 28), 0.7), 1.0)[0, 3:-3, 3:-3].any()
    images = drawings(3, GREY).numpy()
    edges = corrupted("canny_edges", images, 5)
    assert {*np.unique(edges)} == {0, 1}
    np.testing.assert_allclose(
        corrupted("canny_edges", images, 2), 0.6 * images + 0.4 * edges, atol=1e-6
    )


def test_clouds_are_published_ones_and_stretch_from_0_to_1():
    clouds = plasma(randoms(3), 64, 2.0, (64, 64))
    np.testing.assert_allclose(
        [clouds.min(axis=(1, 2)), clouds.max(axis=(1, 2))], [[0] * 3, [1] * 3]
    )
    np.testing.assert_array_equal(plasma(randoms(3), 64, 2.0, (28, 15)), clouds[:, :28, :15])
    # each scale's step is smaller: neighbours are alike, the more so the faster steps decay
    rough = [np.abs(np.diff(plasma(randoms(20), 64, d, (64, 64)))).mean() for d in (1.4, 2.0, 3.0)]
    assert rough == sorted(rough, reverse=True)
    assert rough[-1] < 0.02


def test_one_square_of_a_cloud_by_hand():
    u = np.random.default_rng([0, 0]).random(3, dtype=np.float32).astype(np.float64)
    centre, above, beside = 2e4 * (u - 0.5)
    rest = np.array([0, 2 * centre / 4 + above, 2 * centre / 4 + beside, centre])
    wanted = (rest - rest.min()) / np.ptp(rest)
    np.testing.assert_allclose(plasma(randoms(1), 2, 3.0, (2, 2)).ravel(), wanted, atol=1e-5)


def test_fog_is_a_cloud_between_black_and_the_brightest_pixel():
    for shape, strength, seed in ((GREY, 3.0, 5), (COLOUR, 1.5, 5)):
        images = drawings(4, shape).numpy()
        most = images.max(axis=(1, 2, 3), keepdims=True)
        clouds = [
            (corrupted("fog", x, seed) * (m + strength) / m - x) / strength
            for x, m in ((images, most), (images / 2, most / 2))
        ]
        np.testing.assert_allclose(clouds[0], clouds[1], atol=1e-5)  # whatever the image is
        assert clouds[0].min() > -1e-5
        assert clouds[0].max() < 1 + 1e-5
    assert not corrupted("fog", plain(0, GREY, 2), 3).any()


def test_mud_and_water():
    on_black = corrupted("spatter", plain(0, GREY), 3)
    assert on_black.max() == pytest.approx(63 / 255, abs=1e-3)
    shares = [(corrupted("spatter", plain(0, GREY), s) > 0).mean() for s in (1, 2, 3)]
    assert shares == sorted(shares)
    assert shares[0] > 0.005
    water = corrupted("spatter", plain(0, COLOUR), 2)
    np.testing.assert_allclose(water[:, 0] * 238, water[:, 1] * 175, atol=1e-4)
    np.testing.assert_array_equal(water[:, 1], water[:, 2])
    assert water.max() == pytest.approx(0.5 * 238 / 255, abs=1e-5)
    mud = corrupted("spatter", plain(1, COLOUR), 5)
    np.testing.assert_allclose(mud.min(axis=(0, 2, 3)), np.array([63, 42, 20]) / 255, atol=1e-3)


def test_colours_keep_what_they_are_said_to_keep():
    images = drawings(20, COLOUR).numpy().astype(np.float64) * 0.6 + 0.05
    value, low = images.max(axis=1), images.min(axis=1)
    brighter = corrupted("cifar_brightness", images.astype(np.float32), 3)
    np.testing.assert_allclose(brighter.max(axis=1), value + 0.15, atol=1e-6)
    np.testing.assert_allclose(
        1 - brighter.min(axis=1) / brighter.max(axis=1), 1 - low / value, atol=1e-5
    )
    pale = corrupted("saturate", images.astype(np.float32), 1)
    np.testing.assert_allclose(pale.max(axis=1), value, atol=1e-6)
    np.testing.assert_allclose(1 - pale.min(axis=1) / value, 0.3 * (1 - low / value), atol=1e-5)
    shrunk = corrupted("cifar_contrast", images.astype(np.float32), 2)
    np.testing.assert_allclose(shrunk.mean(axis=(2, 3)), images.mean(axis=(2, 3)), atol=1e-6)
    np.testing.assert_allclose(shrunk.std(axis=(2, 3)), images.std(axis=(2, 3)) / 2, rtol=1e-4)
    grey = plain(0.5, COLOUR, 1)
    np.testing.assert_allclose(corrupted("saturate", grey, 4)[0, :, 0, 0], [0.5, 0.45, 0.45])
    black = corrupted("cifar_brightness", plain(0, COLOUR, 1), 2)
    np.testing.assert_allclose(black, 0.1, atol=1e-7)


def test_boxes_are_pillows():
    image = pytest.importorskip("PIL.Image")
    bytes_ = (drawings(2, COLOUR).numpy() * 255).astype(np.uint8)
    for severity, share in enumerate((0.95, 0.9, 0.85, 0.75, 0.65), start=1):
        ours = corrupted("pixelate", (bytes_ / 255).astype(np.float32), severity) * 255
        for one, got in zip(bytes_, ours, strict=True):
            picture = image.fromarray(one.transpose(1, 2, 0))
            small = picture.resize((int(32 * share),) * 2, image.Resampling.BOX)
            theirs = np.asarray(small.resize((32, 32), image.Resampling.BOX)).transpose(2, 0, 1)
            assert np.abs(got - theirs).max() < 1.01  # they round in between


def test_ice_is_added_to_a_darker_image():
    ice = {s: corrupted("frost", plain(0, COLOUR, 8), s) for s in (1, 5)}
    np.testing.assert_allclose(ice[5] * 0.2, ice[1] * 0.45, atol=1e-6)  # one pane, more of it
    assert 0.3 < (ice[1] / 0.2).mean() < 0.7
    frosted = corrupted("frost", plain(0.2, COLOUR, 8), 5)
    np.testing.assert_allclose(frosted, 0.75 * 0.2 + ice[5], atol=1e-6)


def test_rubber_is_pulled_no_farther_than_said():
    across = np.broadcast_to(np.linspace(0, 1, 32, dtype=np.float32), (30, 3, 32, 32)).copy()
    pulled = corrupted("elastic_transform", across, 5)
    middle = (slice(None), slice(None), slice(8, 24), slice(8, 24))
    moved = np.abs(pulled - across)[middle] * 31  # pixels
    assert 0.2 < moved.mean() < 3.2
    # noise of at most 3.2 pixels, before it is smoothed, and three points that move by 1 at most
    assert moved.max() < 3.2 + 3


# as published, a higher severity is not always farther from the image
NOT_IN_ORDER = {
    "grey": {
        "fog",
        "snow",
        "spatter",
        "elastic_transform",
        "motion_blur",
        "frost",
        "pixelate",
        "glass_blur",
    },
    "colour": {"glass_blur", "elastic_transform", "spatter", "saturate", "frost", "motion_blur"},
}


@pytest.mark.parametrize("of", ["grey", "colour"])
def test_severities_are_in_order(of):
    shape = GREY if of == "grey" else COLOUR
    images = drawings(6, shape).numpy()
    out_of_order = set()
    for name, entry in CORRUPTIONS.items():
        if "grid" in entry.traits or (of == "grey" and "colour" in entry.traits):
            continue
        off = [np.square(corrupted(name, images, s) - images).mean() for s in range(1, 6)]
        assert off[0] > 1e-6, name
        if off != sorted(off):
            out_of_order.add(name)
    assert out_of_order <= NOT_IN_ORDER[of]


def test_the_benchmarks_are_made_of_corruptions_of_the_catalogue():
    assert (len(MNIST_C), len(CIFAR_C), len(CIFAR_C_EXTRA)) == (15, 15, 4)
    assert {*MNIST_C, *CIFAR_C, *CIFAR_C_EXTRA} <= {*CORRUPTIONS}
    assert not [name for name in MNIST_C if "colour" in CORRUPTIONS[name].traits]
