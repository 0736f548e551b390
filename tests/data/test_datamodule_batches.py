"""What the data module does with class weights, several labels, sizes, channels and mixing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.plugins.precision import DoublePrecision, MixedPrecision

from resweep.data.augment import Augment
from resweep.data.balance import BalancedLoader, class_weights
from resweep.data.base import Source
from resweep.data.convert import to_channels, to_size
from resweep.data.datamodule import ImageDataModule
from resweep.data.loader import BatchLoader
from resweep.data.samples import InMemory
from resweep.data.sources import fake
from resweep.errors import Problem, RequestError

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]


def make_source(counts: tuple[int, ...] = (30, 30, 30, 30)) -> Source:
    """Random 4 x 5 colour images, so many of each class."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (len(labels), 3, 4, 5), dtype=torch.uint8, generator=generator)
    return Source(InMemory(images, labels), None, None, tuple("abcd"[: len(counts)]), mirror=True)


def make_data(source: Source | None = None, augment: Augment | None = None, **changes: object) -> ImageDataModule:
    settings = {"batch_size": 72, "val_size": 0.2, "test_size": 0.25, "split_seed": 0, "subset": None, "seed": 0}
    return ImageDataModule(source or make_source(), augment or Augment(), num_workers=0, **{**settings, **changes})


def problem_of(source: Source | None = None, augment: Augment | None = None, **changes: object) -> Problem:
    with pytest.raises(RequestError) as caught:
        make_data(source, augment, **changes)
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


def prepared(
    data: ImageDataModule, training: bool = True, precision: object | None = None
) -> tuple[Batch, torch.Tensor, torch.Tensor]:
    """The first training batch, and what the data module makes of it."""
    data.trainer = None
    batch = next(iter(data.train_dataloader()))
    plugin = precision or MixedPrecision("bf16-mixed", "cpu")
    data.trainer = SimpleNamespace(training=training, current_epoch=0, precision_plugin=plugin)
    return batch, *data.on_after_batch_transfer(batch, 0)


def test_class_weights_are_those_of_the_training_split() -> None:
    assert make_data().class_weights is None and make_data(balance="sampling").class_weights is None
    data = make_data(make_source((600, 120, 40)), balance="weights", subset=40, label_noise=0.25)
    assert torch.equal(data.class_weights, class_weights(data.train.labels, 3)) and not data.multilabel
    assert not isinstance(data.train_dataloader(), BalancedLoader)


def test_sampling_changes_the_order_of_training_only() -> None:
    source = make_source((600, 120, 40))
    data = make_data(source, balance="sampling")
    loader = data.train_dataloader()
    assert isinstance(loader, BalancedLoader) and len(loader) == len(make_data(source).train_dataloader())
    assert type(data.val_dataloader()) is type(data.test_dataloader()) is BatchLoader
    counts = torch.bincount(data.train.labels[loader.order()], minlength=3)
    assert counts.min() > 100  # of 456; 24 images are of the smallest class


def test_several_labels_pass_through() -> None:
    source = fake(4, 4, 3, 64, 16, multilabel=True)
    data = make_data(source, val_size=0.25, test_size=None, balance="weights", batch_size=48)
    assert data.multilabel and data.num_classes == 4 and [len(data.train), len(data.val)] == [48, 16]
    positives = data.train.labels.sum(0)
    torch.testing.assert_close(data.class_weights, (48 - positives) / positives)
    batch, _, targets = prepared(data)
    assert targets.dtype == torch.float32 and torch.equal(targets, data.train.labels[batch[2]])
    problem = problem_of(source, val_size=0.25, test_size=None, balance="sampling")
    assert problem.key == "data.balance" and "use data.balance=weights" in problem.message


@pytest.mark.parametrize(
    ("image_size", "channels", "shape"),
    [(8, None, (3, 8, 8)), (6, 1, (1, 6, 6)), (None, 1, (1, 4, 5)), (4, 3, (3, 4, 4)), (None, None, (3, 4, 5))],
)
@pytest.mark.parametrize("training", [True, False])
def test_batches_are_scaled_and_recoloured(
    training: bool, image_size: int | None, channels: int | None, shape: tuple[int, int, int]
) -> None:
    data = make_data(image_size=image_size, channels=channels)
    assert data.image_shape == shape and data.in_channels == shape[0] == len(data.mean)
    (raw, *_), images, _ = prepared(data, training)
    expected = to_channels(raw, shape[0])
    expected = expected if image_size is None else to_size(expected, image_size)
    assert images.shape[1:] == shape and torch.equal(images, data.normalize(expected))
    own = data.normalize(to_channels(data.train.images, shape[0]))  # normalised by the statistics at the own size
    torch.testing.assert_close(own.mean((0, 2, 3)), torch.zeros(shape[0]), rtol=0, atol=1e-5)


def test_grey_images_become_colour() -> None:
    grey = fake(2, 6, 1, 40, 10)
    data = make_data(grey, Augment(padding=1, flip=0.5), val_size=0.5, test_size=None, channels=3)
    _, images, _ = prepared(data)
    assert images.shape[1:] == (3, 6, 6) and torch.equal(images[:, 0], images[:, 2])


def test_mixing_gives_shares_of_the_classes_in_training_only() -> None:
    data = make_data(augment=Augment(mixup=1.0))
    _, images, targets = prepared(data, precision=DoublePrecision())
    assert images.dtype == targets.dtype == torch.float64 and targets.shape == (72, 4)
    torch.testing.assert_close(targets.sum(1), torch.ones(72, dtype=torch.float64), rtol=0, atol=1e-6)
    assert ((targets > 0).sum(1) == 2).any()
    batch, _, labels = prepared(data, training=False)
    assert torch.equal(labels, batch[1])


def test_what_augmentation_cannot_do_is_refused() -> None:
    problem = problem_of(augment=Augment(mixup=1.0), batch_size=1)
    assert problem.key == "data.batch_size" and "augment.mixup=1.0" in problem.message
    assert problem_of(augment=Augment(padding=4, padding_mode="reflect")).key == "augment.padding"
    make_data(augment=Augment(padding=4, padding_mode="reflect"), image_size=8)
