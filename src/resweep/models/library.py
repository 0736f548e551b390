"""Any classification network of torchvision or timm, with a head for the data's classes.

Shapes: B batch, C channels, H height, W width, K classes.

Parameters for 3 channels and 1000 classes are those that the libraries publish, for instance torchvision's ResNet-18
with 11,689,512 and ResNet-50 with 25,557,032.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torchvision
from torch import nn

from resweep.errors import Problem, RequestError, nearest_name
from resweep.models import pretrained as published
from resweep.models.finetune import FineTuned, check_forward, deterministic_pools, set_dropout, take_grey_images
from resweep.models.parts import check_positive, check_probability

# Their logits of auxiliary heads, in training only, are left out; the published weights were trained with them.
AUXILIARY = ("googlenet", "inception_v3")


def torchvision_model(
    name: str,
    weights: str | None = None,
    freeze: str | int = "none",
    dropout: float | None = None,
    arguments: Mapping[str, Any] | None = None,
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
) -> FineTuned:
    """Return a classification network of torchvision with K outputs.

    The head is new, unless the weights have one for as many classes. Grey images: the first convolution has one input
    channel. Its freshly drawn weights are those for the first colour; loaded ones are the sum of those for the three
    colours, which gives the same outputs as a grey image copied to three channels.

    Args:
        name: as in ``torchvision.models.list_models(module=torchvision.models)``.
        weights: None (freshly drawn), "DEFAULT" or another name that torchvision has for them, or the path of a file
            that torch.save wrote. Named weights are fetched once, into the ``checkpoints`` folder of torch hub.
        freeze: "none", "features" (all but the head) or a number of layer groups, from the first; their batch
            normalizations keep their running statistics.
        dropout: probability in [0, 1) of the dropout in front of the head, put there if need be; None leaves the
            network as it is.
        arguments: further keyword arguments of torchvision's function, for instance ``stochastic_depth_prob``.
        num_classes: K, number of classes.
        in_channels: channels of the images, 1 or 3.
        image_size: (H, W) of the images.

    Raises:
        RequestError: if there is no such network or weights, or the weights cannot be fetched or do not fit.
        ValueError: if another argument is outside its range, or the network does not take such images.

    Randomness: initial weights, as torchvision draws them, and dropout use the global torch generator.
    Source: torchvision.models, whose pages name the paper of each network.
    """
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        message = f"torchvision has no such classification network; it has {len(names)}, such as {', '.join(names[:3])}"
        raise RequestError(Problem("model.name", str(name), message, nearest_name(str(name), names)))
    check_positive(num_classes=num_classes, in_channels=in_channels)
    if in_channels not in (1, 3):
        raise ValueError(f"in_channels={in_channels}: torchvision's networks take 1 or 3; set data.channels")
    url = _torchvision_url(name, weights)
    given = _torchvision_arguments(name, weights, in_channels, image_size) | dict(arguments or {})
    given |= {"weights": None, "num_classes": num_classes}
    net = _built(torchvision.models.get_model, name, image_size, given)
    if in_channels == 1:
        take_grey_images(net)
    head = [module for module in net.modules() if isinstance(module, (nn.Linear, nn.Conv2d))][-1]
    if weights is not None and published.wanted():
        _load_torchvision(net, name, weights, url, head)
    if dropout is not None:
        set_dropout(net, head, dropout)
    return _finished(net, [head], name, freeze, num_classes, in_channels, image_size)


def timm_model(
    name: str,
    pretrained: bool | str = False,
    freeze: str | int = "none",
    dropout: float | None = None,
    arguments: Mapping[str, Any] | None = None,
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
) -> FineTuned:
    """Return a network of timm with K outputs.

    The head is new, unless the published weights have one for as many classes. First convolutions for another number
    of channels, and position embeddings for another size of image, are made from the published ones by timm.

    Args:
        name: as in ``timm.list_models()``, or with the tag of its weights, as in ``timm.list_pretrained()``.
        pretrained: False (freshly drawn), True (published weights, fetched once, into the cache of Hugging Face) or
            the path of a file of weights.
        freeze: "none", "features" (all but the head) or a number of layer groups, from the first; their batch
            normalizations keep their running statistics.
        dropout: timm's ``drop_rate``, a probability in [0, 1) in front of the head; None leaves timm's own.
        arguments: further keyword arguments of ``timm.create_model``, for instance ``drop_path_rate`` (stochastic
            depth).
        num_classes: K, number of classes.
        in_channels: channels of the images.
        image_size: (H, W) of the images; given to networks that are built for one size.

    Raises:
        RequestError: if timm is not installed, there is no such network or weights, or the weights cannot be fetched
            or do not fit.
        ValueError: if another argument is outside its range, or the network does not take such images.

    Randomness: initial weights, as timm draws them, and dropout use the global torch generator.
    Source: R. Wightman, "PyTorch Image Models", github.com/huggingface/pytorch-image-models.
    """
    timm = _timm()
    _check_timm_name(timm, name)
    check_positive(num_classes=num_classes, in_channels=in_channels)
    given = {} if dropout is None else {"drop_rate": dropout}
    check_probability(**({} if dropout is None else {"dropout": dropout}))
    given |= dict(arguments or {}) | {"num_classes": num_classes, "in_chans": in_channels}
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size and config.input_size[1:] != tuple(image_size):
        given.setdefault("img_size", tuple(image_size))
    net = _built(_create_timm, name, image_size, given)
    if pretrained is not False and published.wanted():
        net = _loaded_timm(timm, name, pretrained, config, given)
    heads = [module for module in _timm_heads(net) if list(module.parameters())]
    if not heads:
        raise RequestError(Problem("model.name", name, "is no classifier: it has no head"))
    return _finished(net, heads, name, freeze, num_classes, in_channels, image_size)


def _built(make: Callable[..., nn.Module], name: str, image_size: tuple[int, int], arguments: Any) -> nn.Module:
    """Call a library; what it asserts is the user's mistake as well."""
    try:
        return make(name, **arguments)
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        size, reason = "x".join(map(str, image_size)), str(error).strip().splitlines()[0]
        raise ValueError(f"name={name}: cannot be built for {size} images: {reason}") from error


def _finished(
    net: nn.Module,
    heads: list[nn.Module],
    name: str,
    freeze: str | int,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
) -> FineTuned:
    deterministic_pools(net)
    net.train()
    check_forward(net, name, num_classes, in_channels, image_size)
    return FineTuned(net, heads, freeze)


def _torchvision_url(name: str, weights: str | None) -> str | None:
    """Where named weights are published; None for a file, or when none are wanted."""
    if weights is None or published.is_path(str(weights)):
        return None
    known = torchvision.models.get_model_weights(name).__members__
    if weights not in known:
        message = f"{name} has the weights {', '.join(known)}; null draws them, the path of a file loads it"
        raise RequestError(Problem("model.weights", str(weights), message, nearest_name(str(weights), known)))
    return known[weights].url


def _torchvision_arguments(
    name: str, weights: str | None, in_channels: int, image_size: tuple[int, int]
) -> dict[str, Any]:
    """Arguments that a few networks need."""
    if name in AUXILIARY:
        if weights is not None and in_channels != 3:
            raise ValueError(f"in_channels={in_channels}: {name} with weights needs colour images; set data.channels=3")
        return {"aux_logits": False, "init_weights": weights is None, "transform_input": weights is not None}
    if not name.startswith(("vit_", "maxvit_")):
        return {}
    unit = int(name.rpartition("_")[2]) if name.startswith("vit_") else 224
    height, width = image_size
    if height != width or height % unit != 0:
        advice = f"set data.image_size={math.ceil(max(image_size) / unit) * unit} or choose another model"
        raise ValueError(f"image_size={height}x{width}: {name} needs a multiple of {unit}x{unit}; {advice}")
    return {"image_size": height} if name.startswith("vit_") else {"input_size": image_size}


def _load_torchvision(net: nn.Module, name: str, weights: str, url: str | None, head: nn.Module) -> None:
    key, value = "model.weights", str(weights)
    if url is None:
        path = published.existing(key, value)
    else:
        path = published.from_url(key, value, f"the weights {weights} of torchvision's {name}", url)
    state = published.read_state(key, value, path)
    if name.startswith("vit_") and "encoder.pos_embedding" in state:
        state = torchvision.models.vision_transformer.interpolate_embeddings(net.image_size, net.patch_size, state)
    if name.startswith("densenet"):
        state = published.densenet_names(state)
    head_names = tuple(n for n, module in net.named_modules() if module is head)
    try:
        published.load_state(net, state, head_names)
    except ValueError as error:
        raise RequestError(Problem(key, value, f"does not fit torchvision's {name}: {error}")) from error


def _timm() -> ModuleType:
    try:
        import timm
        import timm.models
    except ImportError as error:
        message = f'needs the package timm ({error}); pip install "resweep[timm]"'
        raise RequestError(Problem("model", "timm", message)) from error
    return timm


def _check_timm_name(timm: ModuleType, name: str) -> None:
    name = str(name)
    if not timm.is_model(name):
        names = timm.list_models()
        message = f"timm has no such network; it has {len(names)}, such as {', '.join(names[:3])}"
        raise RequestError(Problem("model.name", name, message, nearest_name(name.partition(".")[0], names)))
    architecture, dot, tag = name.partition(".")
    tags = timm.list_pretrained(f"{architecture}.*")
    if dot and name not in tags:
        message = f"timm has no weights {tag} of {architecture}; it has {', '.join(tags) or 'none'}"
        raise RequestError(Problem("model.name", name, message, nearest_name(name, tags)))


def _create_timm(name: str, **arguments: Any) -> nn.Module:
    """A network of timm; of those built for one size of image, some are told which."""
    timm = _timm()
    try:
        return timm.create_model(name, **arguments)
    except TypeError as error:
        if "img_size" not in arguments or "img_size" not in str(error):
            raise
        return timm.create_model(name, **{key: value for key, value in arguments.items() if key != "img_size"})


def _loaded_timm(
    timm: ModuleType, name: str, pretrained: bool | str, config: Any, arguments: Mapping[str, Any]
) -> nn.Module:
    """A network with weights from a file, which is fetched where the user gave none."""
    key, value = "model.pretrained", "true" if pretrained is True else str(pretrained)
    path = _timm_file(key, value, name, pretrained, config)
    if path.suffix in (".npz", ".safetensors"):
        content: dict[str, Any] = {"file": str(path), "custom_load": path.suffix == ".npz"}
    else:
        content = {"state_dict": published.read_state(key, value, path)}

    def load() -> nn.Module:
        overlay = {name: dict(entry) if name == "state_dict" else entry for name, entry in content.items()}
        made = _create_timm(name, **arguments, pretrained=True, pretrained_cfg_overlay=overlay)
        made.pretrained_cfg.pop("state_dict", None)  # the net would keep all weights twice
        return made

    try:
        with published.quiet("timm"):  # which tensors of a file are of no use; those that are missing are found below
            net = load()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(torch.initial_seed() + 1)
                other = load()
    except Exception as error:  # of the readers of several file formats
        reason = (str(error).strip().splitlines() or [""])[-1].strip()
        message = f"cannot be loaded into timm's {name} ({type(error).__name__}: {reason})"
        raise RequestError(Problem(key, value, message)) from error
    heads = _timm_heads(net)
    missing = published.unloaded(net, other, tuple(n for n, m in net.named_modules() if any(m is h for h in heads)))
    if missing:
        message = f"does not fit timm's {name}: {len(missing)} tensors are missing, the first is {missing[0]}"
        raise RequestError(Problem(key, value, message))
    return net


def _timm_file(key: str, value: str, name: str, pretrained: bool | str, config: Any) -> Path:
    what = f"the weights of timm's {name}"
    if pretrained is not True:
        return published.existing(key, value)
    if config is not None and config.hf_hub_id:
        return published.from_hub(key, value, what, config.hf_hub_id, config.hf_hub_filename)
    if config is not None and config.url:
        return published.from_url(key, value, what, config.url)
    raise RequestError(Problem(key, value, f"timm has no weights of {name}; give the path of a file, or false"))


def _timm_heads(net: nn.Module) -> tuple[nn.Module, ...]:
    heads = net.get_classifier()
    return tuple(heads) if isinstance(heads, (tuple, list)) else (heads,)
