"""Every file of conf/data and conf/augment can be composed and says what it should."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.utils import get_method, instantiate
from omegaconf import DictConfig, OmegaConf

from resweep.data.augment import Augment
from resweep.data.datamodule import ImageDataModule
from resweep.data.sources import Source

CONF = Path(__file__).parents[2] / "conf"
DATA = sorted(path.stem for path in (CONF / "data").glob("*.yaml"))
AUGMENT = sorted(path.stem for path in (CONF / "augment").glob("*.yaml"))
SHARED = set(
    "name root batch_size val_size test_size split_seed subset num_workers crop_padding flip source".split()  # noqa: SIM905
)


def compose(data: str, augment: str = "standard", **changes: object) -> DictConfig:
    groups = {
        "data": OmegaConf.load(CONF / "data" / f"{data}.yaml"),
        "augment": OmegaConf.load(CONF / "augment" / f"{augment}.yaml"),
    }
    return OmegaConf.merge(groups, {"data": changes})


@pytest.mark.parametrize("name", DATA)
def test_every_data_config_has_the_shared_keys_and_a_first_comment(name: str) -> None:
    config = compose(name)
    assert set(config.data) >= SHARED
    assert config.data.name == name
    assert callable(get_method(config.data.source._target_))
    assert (CONF / "data" / f"{name}.yaml").read_text().startswith("# ")


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("augment", AUGMENT)
def test_augmentation_takes_the_values_of_the_data(name: str, augment: str) -> None:
    config = compose(name, augment, root="anywhere")
    made = instantiate(config.augment)
    assert isinstance(made, Augment)
    expected = (config.data.crop_padding, config.data.flip) if augment == "standard" else (0, 0.0)
    assert (made.padding, made.flip) == expected


@pytest.mark.parametrize(
    ("name", "shape", "classes", "sizes"),
    [("digits", (1, 8, 8), 10, (1221, 216, 360)), ("fake", (3, 32, 32), 10, (409, 103, 128))],
)
def test_data_without_files_make_a_data_module(
    name: str, shape: tuple[int, int, int], classes: int, sizes: tuple[int, int, int]
) -> None:
    config = compose(name)
    source = instantiate(config.data.source)
    assert isinstance(source, Source)
    keys = ("batch_size", "val_size", "test_size", "split_seed", "subset", "num_workers")
    data = ImageDataModule(source, instantiate(config.augment), seed=0, **{key: config.data[key] for key in keys})
    assert (len(data.train), len(data.val), len(data.test)) == sizes
    assert (data.image_shape, data.num_classes) == (shape, classes)
    assert config.data.flip == 0.0 and not source.mirror


def test_the_root_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mnist", "cifar10"):
        monkeypatch.delenv("RESWEEP_DATA", raising=False)
        assert compose(name).data.source.root == "data"
        monkeypatch.setenv("RESWEEP_DATA", "/somewhere")
        assert compose(name).data.source.root == "/somewhere"


def test_the_root_of_an_image_folder_must_be_given() -> None:
    assert OmegaConf.is_missing(compose("image_folder").data, "root")
