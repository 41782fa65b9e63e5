"""The table of layers: sizes, strides and parameters as torch has them, receptive fields as the pixels have them."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor, nn

from training.errors import TrainingError
from training.models import layer_table, registry
from training.models.receptive_field import Field, Reach, Tracer


def convolve(x: NDArray[np.float64], bank: NDArray[np.float64], stride: int, padding: int) -> NDArray[np.float64]:
    """[C_in, H, W] with the bank [C_out, C_in, k, k] -> [C_out, H', W'], in plain numpy."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    kernel = bank.shape[2]
    height, width = ((side - kernel) // stride + 1 for side in x.shape[1:])
    out = np.zeros((len(bank), height, width))
    for i in range(height):
        for j in range(width):
            window = x[:, i * stride : i * stride + kernel, j * stride : j * stride + kernel]
            out[:, i, j] = (bank * window).sum(axis=(1, 2, 3))
    return out


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (5, 2, 0), (1, 1, 0), (3, 2, 2)])
def test_a_convolution_in_numpy_is_torchs_and_has_the_size_of_the_formula(
    kernel: int, stride: int, padding: int
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, kernel, stride, padding, bias=False).double()
    x = torch.rand(1, 3, 11, 11).double()
    ours = convolve(x[0].numpy(), layer.weight.detach().numpy(), stride, padding)
    np.testing.assert_allclose(ours, layer(x)[0].detach().numpy(), atol=1e-12)
    assert ours.shape[1] == layer_table.output_size(11, kernel, stride, padding)


class Branches(nn.Module):
    """Everything that a receptive field can go through: branches of other widths, depthwise, dilation, one-sided."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Hardswish(inplace=True))
        self.dilated = nn.Conv2d(4, 4, 3, padding=3, dilation=3, groups=4)
        self.rectangle = nn.Conv2d(4, 4, (1, 5), padding=(0, 2))
        self.even = nn.Conv2d(8, 4, 4, padding=(1, 0))
        self.pool = nn.AvgPool2d(3, stride=2, ceil_mode=True)
        self.last = nn.Sequential(nn.MaxPool2d((3, 2), 1, dilation=(1, 2)), nn.Conv2d(4, 4, 3, padding=0))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([self.dilated(x) + x, self.rectangle(x)], dim=1)
        return self.last(self.pool(nn.functional.silu(self.even(x))))


def one_sided() -> nn.Module:
    """As TensorFlow pads: one more behind than before, of rows and of columns not the same."""
    first, second = nn.Conv2d(2, 4, 3, stride=2), nn.Conv2d(4, 4, 5, stride=2)
    return nn.Sequential(nn.ZeroPad2d((0, 1, 1, 1)), first, nn.ZeroPad2d((1, 2, 2, 1)), second)


def resnet18_until_layer2() -> nn.Module:
    network = torchvision.models.resnet18(weights=None)
    network.conv1 = nn.Conv2d(2, 64, 7, stride=2, padding=3, bias=False)
    return nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool, network.layer1, network.layer2)


NETWORKS = {
    "residual-cnn": (lambda: registry.build("residual-cnn", 2, 3, 32).features, 64),
    "deep-residual-cnn": (lambda: registry.build("deep-residual-cnn", 2, 3, 32).features, 64),
    "branches": (Branches, 40),
    "padded on one side": (one_sided, 40),
    "resnet18 to layer2": (resnet18_until_layer2, 128),
}


def traced(network: nn.Module, size: int) -> Field | None:
    pixels = torch.zeros(1, 2, size, size, dtype=torch.float64)
    with torch.no_grad(), Tracer(pixels) as tracer:
        return tracer.field(network(pixels))


def changes(network: nn.Module, size: int, side: int, lines: Sequence[int]) -> list[bool]:
    """Whether each of these lines of pixels changes the middle of the output. NaN is the perturbation: no ReLU or
    maximum can hide it. In double precision, where no algorithm mixes values that do not belong together.
    """
    images = torch.zeros(len(lines), 2, size, size, dtype=torch.float64)
    for line, image in zip(lines, images, strict=True):
        image.select(side, line).fill_(torch.nan)
    with torch.no_grad():
        out = network(images)
    middle = out.select(side + 1, out.shape[side + 1] // 2)
    return middle.select(2, 0).isnan().any(dim=1).tolist()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("side", [1, 2], ids=["rows", "columns"])
def test_exactly_the_pixels_of_the_receptive_field_change_an_output(name: str, side: int) -> None:
    torch.manual_seed(0)
    make, size = NETWORKS[name]
    network = make().double().eval()
    field = traced(network, size)
    assert field is not None
    reach = field.rows if side == 1 else field.columns
    with torch.no_grad():
        middle = network(torch.zeros(1, 2, size, size).double()).shape[side + 1] // 2
    first, last = reach.stride * middle + reach.low, reach.stride * middle + reach.high
    assert 0 < first < last < size - 1, "the image is large enough for both edges"
    lines = [0, first - 1, first, last, last + 1, size - 1]
    assert changes(network, size, side, lines) == [False, False, True, True, False, False]


@pytest.mark.parametrize(
    "tail",
    [
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
        nn.Sequential(nn.Flatten(), nn.Linear(4 * 16 * 16, 3)),
        nn.AdaptiveMaxPool2d(1),
        nn.LayerNorm([4, 16, 16]),
        nn.Softmax(dim=3),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4),
        nn.Upsample(scale_factor=2),
        nn.ConvTranspose2d(4, 4, 2),
        nn.ChannelShuffle(2),
    ],
    ids=lambda tail: type(tail[0] if isinstance(tail, nn.Sequential) else tail).__name__,
)
def test_what_mixes_all_places_or_has_no_rule_sees_everything(tail: nn.Module) -> None:
    local = nn.Conv2d(3, 4, 3, padding=1)
    assert layer_table.receptive_field(local, 3, 16) == 3
    assert layer_table.receptive_field(nn.Sequential(local, tail), 3, 16) is None


@pytest.mark.parametrize("tail", [nn.Softmax(dim=1), nn.GLU(dim=1), nn.PReLU(4), nn.Hardswish(), nn.BatchNorm2d(4)])
def test_what_mixes_channels_only_sees_no_more_places(tail: nn.Module) -> None:
    assert layer_table.receptive_field(nn.Sequential(nn.Conv2d(3, 4, 3), tail), 3, 16) == 3


def test_rows_that_become_columns_are_not_followed() -> None:
    class Turned(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.transpose(2, 3)

    assert (
        layer_table.receptive_field(nn.Sequential(nn.Conv2d(3, 4, (1, 5)), Turned(), nn.Conv2d(4, 4, (1, 5))), 3, 16)
        is None
    )


# Araujo, Norris and Sim 2019, doi:10.23915/distill.00021, table of receptive fields; ResNet-18 by hand
PUBLISHED = {"alexnet": 195, "vgg16": 212, "inception_v3": 1311, "resnet18": 435}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_receptive_fields_of_known_networks_are_the_published_ones(name: str) -> None:
    options = {"init_weights": False} if name == "inception_v3" else {}
    with torch.device("meta"):
        network = torchvision.models.get_model(name, weights=None, **options)
    known = [row.receptive_field for row in layer_table.table(network, 3, 299) if row.receptive_field]
    assert max(known) == PUBLISHED[name]


@pytest.mark.parametrize(
    ("name", "patch"), [("mobilenet_v3_small", 7), ("efficientnet_b0", 7), ("vit_b_16", 16), ("swin_t", 4)]
)
def test_attention_and_squeeze_and_excitation_see_everything(name: str, patch: int) -> None:
    """What comes before the first of them sees its window."""
    with torch.device("meta"):
        rows = layer_table.table(torchvision.models.get_model(name, weights=None), 3, 224)
    first = next(number for number, row in enumerate(rows) if row.receptive_field is None)
    assert max(row.receptive_field or 0 for row in rows[:first]) == patch
    assert rows[-1].receptive_field is None


@pytest.mark.parametrize("name", ["residual-cnn", "deep-residual-cnn"])
def test_the_three_stages_of_our_own_networks(name: str) -> None:
    """The formula gives 9, 21, 45 for the blocks of the small one (a source that prints 7, 15, 31 is wrong)."""
    rows = {row.name: row for row in layer_table.table(registry.build(name, 3, 10, 32), 3, 32)}
    found = [rows[f"features.{number}"].receptive_field for number in (3, 4, 5)]
    assert found == {"residual-cnn": [9, 21, 45], "deep-residual-cnn": [7, 11, 17]}[name]
    assert rows["features.0"].output == (32, 32, 32)
    assert rows["features.5"].stride == {"residual-cnn": 8, "deep-residual-cnn": 2}[name]
    assert (rows["head"].receptive_field, rows[""].output) == (None, (10,))


def torchvision_network(name: str) -> nn.Module:
    return torchvision.models.get_model(name, weights=None, num_classes=7)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vit_b_16"])
def test_parameters_add_up_and_the_network_stays_as_it_was(name: str) -> None:
    with torch.device("meta") if name == "vit_b_16" else torch.device("cpu"):
        network = torchvision_network(name).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    rows = layer_table.table(network, 3, 224)
    assert sum(row.parameters for row in rows) == sum(each.numel() for each in network.parameters())
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
    if name != "vit_b_16":
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_output_sizes_are_those_of_a_real_pass(name: str) -> None:
    network = torchvision_network(name).eval()
    shapes: dict[str, tuple[int, ...]] = {}
    for each, module in network.named_modules():
        module.register_forward_hook(lambda _m, _i, out, each=each: shapes.update({each: tuple(out.shape[1:])}))
    with torch.no_grad():
        network(torch.zeros(1, 3, 64, 64))
    rows = layer_table.table(torchvision_network(name), 3, 64)
    assert len(rows) > 40
    assert {row.name: row.output for row in rows} == {row.name: shapes[row.name] for row in rows}


def test_macs_are_counted_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 10 * 10, 5))
    assert layer_table.macs(network, 3, 10) == 10 * 10 * 8 * 3 * 9 + 800 * 5


def test_depthwise_macs_do_not_cross_channels() -> None:
    assert layer_table.macs(nn.Conv2d(6, 6, 3, padding=1, groups=6), 6, 10) == 10 * 10 * 6 * 9


def test_a_list_of_triples_is_the_network_it_describes() -> None:
    triples = layer_table.parse("7,2,3 3,2,1 3,1,2,2 1,1,0")
    network = nn.Sequential(*(nn.Conv2d(1, 1, k, s, p, *rest) for k, s, p, *rest in triples))
    expected = layer_table.table(network, 1, 50)[:-1]
    found = layer_table.table_of(triples, 50)
    key = [(row.output[-1], row.stride, row.receptive_field) for row in expected]
    assert [(row.output[-1], row.stride, row.receptive_field) for row in found] == key
    assert found[2].receptive_field == 7 + 2 * 2 + 4 * 4


def test_the_effective_kernel_of_a_dilated_convolution() -> None:
    """k + (k - 1)(d - 1)."""
    assert [Reach().through(3, dilation=d).size for d in (1, 2, 3)] == [3, 5, 7]


@pytest.mark.parametrize("text", ["", "3", "3,1", "3,1,1;3,1,1", "3,1,1,1,1", "a,b,c", "0,1,0", "3,0,1", "3,1,1,0"])
def test_what_is_no_list_of_triples_is_refused(text: str) -> None:
    with pytest.raises(TrainingError, match="kernel"):
        layer_table.parse(text)


def test_a_layer_without_output_is_refused() -> None:
    with pytest.raises(TrainingError, match="layer 2 has no output left"):
        layer_table.table_of([(3, 2, 0), (9, 1, 0)], 16)


def test_a_size_that_the_network_cannot_take_is_an_error() -> None:
    dense = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    with pytest.raises(TrainingError, match="takes no 9 px: "):
        layer_table.table(dense, 3, 9)
    with torch.device("meta"):
        transformer = torchvision.models.vit_b_16(weights=None)
    with pytest.raises(TrainingError, match="takes no 32 px: Wrong image height"):
        layer_table.table(transformer, 3, 32)


def test_the_printed_table_has_the_total_and_says_all() -> None:
    lines = layer_table.as_lines(layer_table.table(registry.build("residual-cnn", 3, 10, 32), 3, 32))
    assert lines[-1].split()[-1] == "1,210,410"
    assert lines[-1].split()[-3:-1] == ["all", "all"]
    assert max(map(len, lines)) <= 100
