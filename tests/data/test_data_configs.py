"""Every file of conf/data can be composed, says what it should and builds a data module from the format's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import write_images
from hydra.core.config_loader import ConfigLoader
from hydra.utils import get_method, instantiate
from omegaconf import OmegaConf
from published import FILES, WRITERS, tiny

from resweep.config import compose, freeze
from resweep.data.augment import Augment
from resweep.data.datamodule import ImageDataModule
from resweep.schema import RULES

CONF = Path(__file__).parents[2] / "conf"
DATA = sorted(path.stem for path in (CONF / "data").glob("*.yaml"))
OWN = ("csv", "image_folder", "imagenet")  # of the user's own files
MODULE_KEYS = (
    "batch_size", "val_size", "test_size", "split_seed", "subset", "num_workers", "num_folds", "fold", "label_noise",
    "balance", "image_size", "channels",
)  # fmt: skip
SHARED = {"name", "root", "crop_padding", "flip", "source", *MODULE_KEYS}


def data_config(name: str, *overrides: str) -> dict[str, Any]:
    """The data section alone, which takes a tenth of the time of the whole config."""
    parts = {"data": OmegaConf.load(CONF / "data" / f"{name}.yaml")}
    return OmegaConf.to_container(OmegaConf.merge(parts, OmegaConf.from_dotlist(list(overrides))), resolve=True)["data"]


def build(config: dict[str, Any]) -> ImageDataModule:
    settings = {key: config[key] for key in MODULE_KEYS}
    return ImageDataModule(instantiate(config["source"]), Augment(), seed=0, **settings)


@pytest.mark.parametrize("name", [name for name in DATA if name not in OWN])
def test_every_data_config_has_the_shared_keys_and_a_first_comment(name: str) -> None:
    config = data_config(name)
    assert set(config) >= SHARED
    assert config["name"] == name
    assert callable(get_method(config["source"]["_target_"]))
    assert (CONF / "data" / f"{name}.yaml").read_text().startswith("# ")
    for key in MODULE_KEYS:
        rule = RULES.get(f"data.{key}")
        assert rule is not None and rule.accepts(config[key]), key
    defaults = ("num_folds", "fold", "balance", "subset")
    assert all(config[key] is None for key in defaults) and config["label_noise"] == 0


@pytest.mark.parametrize("name", ["digits", "cifar10", "dtd"])
def test_augmentation_takes_the_values_of_the_data(name: str, loader: ConfigLoader) -> None:
    config = freeze(compose(loader, [f"data={name}"]))
    made = instantiate(config["augment"])
    assert isinstance(made, Augment)
    assert (made.padding, made.flip) == (config["data"]["crop_padding"], config["data"]["flip"])


def test_every_published_set_has_a_config() -> None:
    assert set(WRITERS) | {"digits", "fake"} <= set(DATA)


@pytest.mark.parametrize(
    ("name", "shape", "classes", "sizes"),
    [("digits", (1, 8, 8), 10, (1221, 216, 360)), ("fake", (3, 32, 32), 10, (409, 103, 128))],
)
def test_data_without_files_make_a_data_module(
    name: str, shape: tuple[int, int, int], classes: int, sizes: tuple[int, int, int]
) -> None:
    config = data_config(name)
    data = build(config)
    assert (len(data.train), len(data.val), len(data.test)) == sizes
    assert (data.image_shape, data.num_classes) == (shape, classes)
    assert config["flip"] == 0.0


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_every_published_set_makes_a_data_module(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    WRITERS[name](tmp_path, monkeypatch)
    config = data_config(name, *tiny(name, tmp_path))
    data = build(config)
    images, labels, positions, index = next(iter(data.val_dataloader()))
    assert images.shape[1:] == data.image_shape and images.dtype == torch.uint8
    assert labels.dtype == torch.int64 and index == 0 and positions.tolist() == list(range(len(labels)))
    assert min(len(data.train), len(data.val), len(data.test)) >= data.num_classes
    assert config["flip"] == 0.0 or instantiate(config["source"]).mirror


@pytest.mark.parametrize("name", ["cifar100", "emnist", "oxford_pets"])
def test_image_size_and_channels_are_keys_of_every_set(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITERS[name](tmp_path, monkeypatch)
    data = build(data_config(name, *tiny(name, tmp_path), "data.image_size=12", "data.channels=1"))
    assert data.image_shape == (1, 12, 12) and data.mean.shape == (1,)


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_the_root_comes_from_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESWEEP_DATA", raising=False)
    assert data_config(name)["source"]["root"] == "data"
    monkeypatch.setenv("RESWEEP_DATA", "/somewhere")
    assert data_config(name)["source"]["root"] == "/somewhere"


def test_the_sizes_of_large_pictures_are_given() -> None:
    for name in FILES:
        text = (CONF / "data" / f"{name}.yaml").read_text()
        assert "image_size: null" not in text and "memory_limit_mb: 1024" in text


def test_an_image_folder_has_the_shared_keys(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images")
    config = data_config("image_folder", f"data.root={folder}", "data.num_folds=3", "data.fold=1")
    assert set(config) >= SHARED
    data = build(config)
    assert [len(data.train), len(data.val), len(data.test)] == [14, 2, 8]
