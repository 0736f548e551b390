from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from resweep.data.augment import Augment
from resweep.data.augment.per_image import PerImage
from resweep.data.datamodule import ImageDataModule
from resweep.data.loader import BatchLoader
from resweep.data.samples import InMemory, OnDisk, Source
from resweep.data.sources import fake
from resweep.errors import Problem, RequestError

# Lightning 2.6 asks torch 2.12's pytree in a way that torch is about to drop; nothing here can change that.
pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")

Step = tuple[int, int, tuple[int, ...], torch.Tensor]


def make_source(train: int = 120, val: int = 0, test: int = 0, num_classes: int = 4) -> Source:
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> InMemory:
        images = torch.randint(0, 256, (count, 3, 4, 5), dtype=torch.uint8, generator=generator)
        return InMemory(images, torch.arange(count) % num_classes)

    parts = [split(count) if count else None for count in (train, val, test)]
    return Source(*parts, tuple(f"class{label}" for label in range(num_classes)), mirror=True)


def make_data(source: Source | None = None, augment: Augment | None = None, **changes: object) -> ImageDataModule:
    settings = {
        "batch_size": 16,
        "val_size": 0.2,
        "test_size": 0.25,
        "split_seed": 0,
        "subset": None,
        "seed": 0,
        "num_workers": 0,
    }
    return ImageDataModule(source or make_source(), augment or Augment(1, 0.5), **{**settings, **changes})


class Recorder(pl.LightningModule):
    """Trains one weight and writes down every training batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.steps: list[Step] = []
        self.val_images: list[torch.Tensor] = []

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        images, labels = batch
        self.steps.append((self.current_epoch, batch_idx, tuple(labels.tolist()), images.clone()))
        return (self.weight - images.mean()) ** 2

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        self.val_images.append(batch[0].clone())
        self.log("val/loss", batch[0].mean())

    def test_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        self.val_images.append(batch[0].clone())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.weight], lr=0.1)


class Saver(pl.Callback):
    """Saves each epoch at one of the two moments at which Lightning's own callback does."""

    def __init__(self, at_epoch_end: bool) -> None:
        self.at_epoch_end = at_epoch_end

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.at_epoch_end:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / f"{trainer.current_epoch}.ckpt")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.at_epoch_end and not trainer.sanity_checking:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / f"{trainer.current_epoch}.ckpt")


def make_trainer(folder: Path, epochs: int, callbacks: tuple[pl.Callback, ...] = (), **settings: object) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
        default_root_dir=folder,
        callbacks=list(callbacks),
        **settings,
    )


def fit(folder: Path, data: ImageDataModule, epochs: int, **settings: object) -> Recorder:
    recorder = Recorder()
    make_trainer(folder, epochs, **settings).fit(recorder, datamodule=data)
    return recorder


def assert_same_steps(steps: list[Step], expected: list[Step]) -> None:
    assert [step[:3] for step in steps] == [step[:3] for step in expected]
    assert all(torch.equal(one[3], other[3]) for one, other in zip(steps, expected, strict=True))


def test_facts_of_the_data() -> None:
    data = make_data()
    assert (data.num_classes, data.in_channels, data.image_shape) == (4, 3, (3, 4, 5))
    assert data.classes == ("class0", "class1", "class2", "class3")
    pixels = data.train.images.numpy() / 255
    np.testing.assert_allclose(data.mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(data.std, pixels.std(axis=(0, 2, 3)), rtol=1e-12)


def test_splits_depend_on_the_split_seed_and_not_on_the_run_seed() -> None:
    digests = [make_data(split_seed=0, seed=seed).digest for seed in (0, 1)]
    assert digests[0] == digests[1]
    assert make_data(split_seed=1).digest != digests[0]


def problem_of(**changes: object) -> Problem:
    with pytest.raises(RequestError) as caught:
        make_data(**changes)
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ("changes", "key", "text"),
    [
        ({"val_size": 0}, "data.val_size", "takes 0 of 90 images, but 4 classes need at least 4 on both sides"),
        ({"fold": 0}, "data.fold", "needs data.num_folds"),
        ({"batch_size": 0}, "data.batch_size", "at least 1"),
        ({"split_seed": -1}, "data.split_seed", "from 0 to 4294967295"),
        ({"num_workers": -1}, "data.num_workers", "at least 0"),
        ({"image_size": 0}, "data.image_size", "use null or a side in pixels"),
        ({"channels": 2}, "data.channels", "use 1 (grey), 3 (colour) or null"),
        ({"balance": "wieghts"}, "data.balance", "must be one of sampling, weights, or null"),
        ({"batch_size": 73, "drop_last": True}, "data.batch_size", "larger than the training split of 72 images"),
    ],
)
def test_values_that_cannot_be_used_are_named(changes: dict[str, object], key: str, text: str) -> None:
    problem = problem_of(**changes)
    (value,) = [value for name, value in changes.items() if name != "drop_last"]
    assert (problem.key, problem.value) == (key, "null" if value is None else str(value))
    assert text in problem.message


def test_several_wrong_numbers_are_reported_together() -> None:
    with pytest.raises(RequestError) as caught:
        make_data(batch_size=0, split_seed=-1, num_workers=-1)
    assert [problem.key for problem in caught.value.problems] == [
        "data.batch_size",
        "data.split_seed",
        "data.num_workers",
    ]


def test_normalize_is_the_formula() -> None:
    data = make_data()
    images, _ = data.val.batch(torch.arange(18))
    expected = (images.double() / 255 - data.mean.view(3, 1, 1)) / data.std.view(3, 1, 1)
    result = data.normalize(images)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-6)
    training = data.normalize(data.train.images)
    torch.testing.assert_close(training.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(training.std((0, 2, 3), correction=0), torch.ones(3), rtol=0, atol=1e-5)


def test_evaluation_batches_are_large_but_bounded() -> None:
    assert make_data().val_dataloader().batch_size == 512
    assert make_data(batch_size=600).test_dataloader().batch_size == 600
    pictures = torch.zeros(16, 3, 256, 256, dtype=torch.uint8)
    large = Source(InMemory(pictures, torch.arange(16) % 2), None, None, ("a", "b"), mirror=True)
    loader = make_data(large, batch_size=2, val_size=4, test_size=4).test_dataloader()
    assert loader.batch_size * pictures[0].numel() * 4 <= 64 * 2**20 < (loader.batch_size + 1) * pictures[0].numel() * 4


def test_batches_of_an_epoch_are_counted_without_an_image() -> None:
    for changes, count in (({}, 5), ({"drop_last": True}, 4), ({"batch_size": 72}, 1), ({"balance": "sampling"}, 5)):
        data = make_data(**changes)
        assert data.train_batches == len(data.train_dataloader()) == count
    labels = torch.arange(40) % 2
    files = OnDisk([Path(f"/nowhere/{number}.png") for number in range(40)], labels, 8, 3)
    absent = make_data(Source(files, None, None, ("a", "b"), mirror=True), batch_size=10)
    assert absent.train_batches == 3 and absent.image_shape == (3, 8, 8)


def test_several_processes_are_refused() -> None:
    data = make_data()
    data.trainer = SimpleNamespace(world_size=2)
    with pytest.raises(RequestError, match=r"^trainer\.devices=2: "):
        data.train_dataloader()


def test_epochs_have_their_own_order_and_augmentation(tmp_path: Path) -> None:
    data = make_data(augment=Augment(1, 0.5))
    steps = fit(tmp_path, data, epochs=3).steps
    assert [step[:2] for step in steps] == [(epoch, index) for epoch in range(3) for index in range(5)]
    epochs = [torch.cat([images for epoch, _, _, images in steps if epoch == wanted]) for wanted in range(3)]
    orders = [sum((labels for epoch, _, labels, _ in steps if epoch == wanted), ()) for wanted in range(3)]
    assert len(set(orders)) == 3
    assert all(len(order) == 72 for order in orders)
    assert not torch.equal(epochs[0], epochs[1])


def test_augmentation_depends_on_seed_epoch_and_batch() -> None:
    places = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)]
    results = []
    for seed, epoch, index in places:
        data = make_data(seed=seed)
        results.append(data.augmented(data.train.images, epoch, index, torch.arange(len(data.train))))
    assert torch.equal(results[0], results[4])
    assert all(not torch.equal(results[one], results[other]) for one in range(4) for other in range(one))


def test_training_shows_the_augmented_batches_of_the_loader(tmp_path: Path) -> None:
    data = make_data()
    steps = iter(fit(tmp_path, data, epochs=2).steps)
    for epoch in range(2):
        loader = BatchLoader(data.train, 16, shuffle=True, seed=0, epoch=lambda epoch=epoch: epoch)
        for images, labels, positions, index in loader:
            step = next(steps)
            assert step[:3] == (epoch, index, tuple(labels.tolist()))
            assert torch.equal(step[3], data.augmented(images, epoch, index, positions))


def test_without_augmentation_each_epoch_shows_every_image_once(tmp_path: Path) -> None:
    data = make_data(augment=Augment(0, 0.0))
    steps = fit(tmp_path, data, epochs=2).steps
    expected = sorted(image.numpy().tobytes() for image in data.normalize(data.train.images))
    for wanted in range(2):
        seen = torch.cat([images for epoch, _, _, images in steps if epoch == wanted])
        assert sorted(image.numpy().tobytes() for image in seen) == expected


def test_validation_and_test_images_are_never_augmented(tmp_path: Path) -> None:
    data = make_data(augment=Augment(2, 1.0))
    recorder = Recorder()
    trainer = make_trainer(tmp_path, 1)
    trainer.fit(recorder, datamodule=data)
    expected = data.normalize(data.val.images)
    assert len(recorder.val_images) == 2  # once as Lightning's sanity check, once after the epoch
    assert all(torch.equal(images, expected) for images in recorder.val_images)
    recorder.val_images.clear()
    trainer.test(recorder, datamodule=data, verbose=False)
    assert torch.equal(torch.cat(recorder.val_images), data.normalize(data.test.images))


@pytest.mark.parametrize("at_epoch_end", [True, False])
def test_a_continued_run_sees_the_batches_of_an_uninterrupted_one(tmp_path: Path, at_epoch_end: bool) -> None:
    whole = fit(tmp_path, make_data(), epochs=4)
    fit(tmp_path, make_data(), epochs=2, callbacks=(Saver(at_epoch_end),))
    torch.manual_seed(99)
    recorder = Recorder()
    make_trainer(tmp_path, 4).fit(recorder, datamodule=make_data(), ckpt_path=tmp_path / "1.ckpt", weights_only=False)
    assert_same_steps(recorder.steps, [step for step in whole.steps if step[0] >= 2])
    assert torch.equal(recorder.weight, whole.weight)


def test_the_seed_decides_the_batches_and_global_seeds_do_not(tmp_path: Path) -> None:
    runs = []
    for number, seed in enumerate((0, 0, 1)):
        torch.manual_seed(number)
        np.random.seed(number)
        runs.append(fit(tmp_path, make_data(seed=seed), epochs=1).steps)
    assert_same_steps(runs[1], runs[0])
    assert [step[2] for step in runs[2]] != [step[2] for step in runs[0]]


def on_disk(folder: Path, held: Source) -> Source:
    """Write the training images of a source into files."""
    paths = [folder / f"{number:03}.png" for number in range(len(held.train))]
    for path, image in zip(paths, held.train.images, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return Source(OnDisk(paths, held.train.labels, None, 3, folder), None, None, held.classes, mirror=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_images_on_disk_train_like_images_in_memory(tmp_path: Path, workers: int) -> None:
    held = make_source(120)
    expected = fit(tmp_path, make_data(held, Augment()), epochs=2).steps
    files = make_data(on_disk(tmp_path, held), Augment(), num_workers=workers)
    assert_same_steps(fit(tmp_path, files, epochs=2).steps, expected)


def test_files_are_augmented_one_by_one_where_they_are_decoded(tmp_path: Path) -> None:
    source = on_disk(tmp_path, make_source(120))
    data = make_data(source, Augment(padding=1, flip=1.0), batch_size=72)
    (step,) = fit(tmp_path, data, epochs=1).steps
    transform = PerImage(data.augment, None, 3, (255 * data.mean).tolist())
    positions = BatchLoader(data.train, 72, shuffle=True, seed=0, epoch=lambda: 0).order()
    pictures = (Image.open(data.train.paths[position]) for position in positions.tolist())
    expected = data.normalize(transform.batch(pictures, positions, epoch=0, seed=0))
    assert torch.equal(step[3], expected)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("32-true", torch.float32),
        ("64-true", torch.float64),
        ("bf16-true", torch.bfloat16),
        ("bf16-mixed", torch.float32),
    ],
)
def test_images_have_the_precision_of_the_trainer(tmp_path: Path, precision: str, dtype: torch.dtype) -> None:
    steps = fit(tmp_path, make_data(fake(4, 4, 3, 64, 16), val_size=8, test_size=None), 1, precision=precision).steps
    assert {images.dtype for *_, images in steps} == {dtype}
