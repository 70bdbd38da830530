"""The table of layers."""

from itertools import pairwise

import pytest

from job.core.architecture import MIN_IMAGE_SIZE, alexnet, same_padding


def test_parameters_and_operations():
    assert alexnet().parameters == 57_044_810
    assert alexnet(classes=1000).parameters == 61_100_840  # torchvision's own figure
    assert alexnet().flop == pytest.approx(4.12e9, rel=1e-3)  # 3 × 2 × macs, less the gradient of the images
    assert alexnet(classes=1000).macs == pytest.approx(714.2e6, rel=1e-3)  # torchvision: 0.71 GFLOPS


def test_shapes_of_the_full_network():
    shapes = {layer.name: layer.out_shape for layer in alexnet().layers}
    assert shapes["features.0"] == (64, 55, 55)
    assert shapes["features.12"] == (256, 6, 6)
    assert shapes["flatten"] == (9216,)
    assert shapes["classifier.6"] == (10,)


@pytest.mark.parametrize("image_size", [MIN_IMAGE_SIZE, 64, 96, 224, 300])
@pytest.mark.parametrize("padding", ["torchvision", "same"])
def test_every_layer_is_fed_by_the_last(image_size, padding):
    layers = alexnet(image_size=image_size, width=1 / 16, conv1_padding=padding).layers
    for layer, following in pairwise(layers):
        assert layer.out_shape == following.in_shape
        assert min(layer.out_shape) >= 1


def test_the_image_size_does_not_change_the_parameters():
    assert alexnet(image_size=64).parameter_shapes == alexnet().parameter_shapes


def test_too_small_an_image_is_refused():
    with pytest.raises(ValueError, match="received 62"):
        alexnet(image_size=62)


def test_positions_of_dropout():
    def around(position):
        names = [layer.name for layer in alexnet(dropout_position=position).layers]
        kinds = [layer.kind for layer in alexnet(dropout_position=position).layers]
        return [kinds[i + 1] if position == "before" else kinds[i - 1] for i, name in enumerate(names) if kinds[i] == "dropout"]

    assert around("before") == ["dense", "dense"]
    assert around("after") == ["relu", "relu"]
    assert alexnet(dropout_position="after").parameter_shapes == alexnet().parameter_shapes


@pytest.mark.parametrize(("size", "expected"), [(224, (3, 4)), (64, (3, 4)), (63, (4, 4)), (65, (5, 5))])
def test_same_padding_gives_a_quarter_of_the_side(size, expected):
    assert same_padding(size, kernel=11, stride=4) == expected
    assert (size + sum(expected) - 11) // 4 + 1 == -(-size // 4)
