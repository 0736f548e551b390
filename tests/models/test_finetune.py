"""Layer groups, freezing and trial runs of networks that this package did not write."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resweep.models.finetune import FineTuned, check_forward, deterministic_pools, layer_groups, set_dropout


class Net(nn.Module):
    """A stem, two stages behind a loose parameter, and a head."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.stages = nn.ModuleList(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)) for _ in range(3))
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(4 * 64, 2))

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(images * self.scale)))
        for stage in self.stages:
            x = F.relu(stage(x))
        return self.head(x)


def fine_tuned(freeze: str | int = "none") -> FineTuned:
    torch.manual_seed(0)
    net = Net()
    return FineTuned(net, [net.head[2]], freeze)


def images() -> Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)) + 1


def train(net: nn.Module, steps: int = 3) -> None:
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(images()), torch.tensor([0, 1, 0, 1])).backward()
        optimizer.step()


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}


def test_layer_groups_are_stem_stages_and_head() -> None:
    net = fine_tuned().net
    groups = layer_groups(net, [net.head[2]])
    assert [[id(p) for p in group.parameters()] for group in groups] == [
        [id(p) for p in (net.scale, net.stem.weight, net.stem.bias, net.norm.weight, net.norm.bias)],
        *[[id(p) for p in stage.parameters()] for stage in net.stages],
        [id(p) for p in net.head.parameters()],
    ]


def test_layer_groups_open_what_is_needed_only() -> None:
    flat = nn.Sequential(*[nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)) for _ in range(5)])
    assert [len(list(g.parameters())) for g in layer_groups(flat, [flat[4][1]])] == [4, 4, 4, 4, 2, 2]
    few = nn.Sequential(flat[0], flat[1], nn.Linear(2, 2))
    assert [len(list(g.parameters())) for g in layer_groups(few, [few[2]])] == [2, 2, 2, 2, 2]


@pytest.mark.parametrize(("freeze", "count"), [("none", 0), (0, 0), (2, 2), ("features", 4), (4, 4)])
def test_frozen_weights_and_statistics_stay_and_the_rest_trains(freeze: str | int, count: int) -> None:
    net = fine_tuned(freeze)
    before = copy.deepcopy(net.state_dict())
    net.eval()
    net.train()
    train(net)
    groups = net.layer_groups()
    assert net.frozen == count and len(groups) == 5
    moved = changed(before, net.state_dict())
    frozen = {name for name in before if any(name.startswith(f"net.stages.{i}.") for i in range(count - 1))}
    frozen |= {name for name in before if "stages" not in name and "head" not in name} if count > 0 else set()
    assert not moved & frozen
    assert moved == set(before) - frozen
    assert all(p.grad is None for group in groups[:count] for p in group.parameters())
    assert net.training and net.net.head.training


def test_evaluation_mode_is_complete() -> None:
    net = fine_tuned(2).eval()
    assert not any(module.training for module in net.modules())


def test_a_copy_is_frozen_as_well() -> None:
    net = copy.deepcopy(fine_tuned("features"))
    before = copy.deepcopy(net.state_dict())
    net.train()
    train(net)
    assert changed(before, net.state_dict()) == {"net.head.2.weight", "net.head.2.bias"}


@pytest.mark.parametrize("freeze", [5, -1, "feature", True, 1.5, None])
def test_what_cannot_be_frozen_is_refused(freeze: object) -> None:
    message = f"^freeze={freeze}: must be none, features or a number of layer groups from 0 to 4, as the net has 5$"
    with pytest.raises(ValueError, match=message):
        fine_tuned(freeze)


def test_dropout_is_set_or_put_in_front_of_the_head() -> None:
    net = Net(0.1)
    head = net.head[2]
    set_dropout(net, head, 0.4)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.4]
    plain = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    head = plain[1]
    set_dropout(plain, head, 0)
    assert plain[1] is head
    set_dropout(plain, head, 0.4)
    assert isinstance(plain[1][0], nn.Dropout) and plain[1][1] is head
    with pytest.raises(ValueError, match=r"dropout=1: must be in \[0, 1\)"):
        set_dropout(plain, head, 1)


def test_pools_onto_several_pixels_are_replaced_by_equal_ones() -> None:
    pools = [
        nn.AdaptiveAvgPool2d(3),
        nn.AdaptiveAvgPool2d((2, 1)),
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveAvgPool2d((None, 2)),
    ]
    nets = [nn.Sequential(copy.deepcopy(pool)) for pool in pools]
    for net, pool, replaced in zip(nets, pools, (True, True, False, False), strict=True):
        deterministic_pools(net)
        assert isinstance(net[0], nn.AdaptiveAvgPool2d) != replaced
        torch.testing.assert_close(net(images()), pool(images()))


def test_a_net_that_takes_the_images_passes_and_is_left_alone() -> None:
    torch.manual_seed(0)
    net = Net(0.5).train()
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    check_forward(net, "net", 2, 3, (8, 8))
    assert not changed(before, net.state_dict())
    assert torch.equal(torch.get_rng_state(), state)


def test_images_that_a_net_does_not_take_are_refused_with_a_size_that_fits() -> None:
    pooled = nn.Sequential(nn.Conv2d(3, 4, 11, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    message = "^image_size=8x8: pooled needs at least 11x11; set data.image_size=11 or choose another model$"
    with pytest.raises(ValueError, match=message):
        check_forward(pooled, "pooled", 2, 3, (8, 8))
    with pytest.raises(ValueError, match=r"^image_size=9x12: net needs another size, for instance 8x8; set data.image"):
        check_forward(Net(), "net", 2, 3, (9, 12))


def test_what_is_no_classifier_is_refused() -> None:
    pattern = r"^name=net: cannot be used for 3x8x8 images: its output is \(2, 2\), not logits \(2, 7\) for two images$"
    with pytest.raises(ValueError, match=pattern):
        check_forward(Net(), "net", 7, 3, (8, 8))
