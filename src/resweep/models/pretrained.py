"""Published weights: where they lie, how they are fetched, and what to say when they cannot be."""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import threading
import urllib.request
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from resweep.errors import Problem, RequestError

SECONDS_TO_CONNECT = 8.0
SECONDS_WITHOUT_DATA = 30.0
FILE_ENDINGS = (".pth", ".pt", ".ckpt", ".bin", ".npz", ".safetensors")
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_structure_only: ContextVar[bool] = ContextVar("structure_only", default=False)


@contextmanager
def structure_only() -> Iterator[None]:
    """Build networks without their published weights, for a checkpoint that is loaded into them afterwards."""
    token = _structure_only.set(True)
    try:
        yield
    finally:
        _structure_only.reset(token)


def wanted() -> bool:
    """Return whether published weights are loaded, see :func:`structure_only`."""
    return not _structure_only.get()


def is_path(weights: str) -> bool:
    """Return whether a text names a file of weights rather than a published set."""
    return os.sep in weights or weights.endswith(FILE_ENDINGS)


def existing(key: str, path: str) -> Path:
    """Return the path of a file of weights.

    Raises:
        RequestError: if there is no such file.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise RequestError(Problem(key, path, "there is no such file"))
    return file


def from_url(key: str, value: str, what: str, url: str) -> Path:
    """Return the file of a URL in torch hub's folder of checkpoints, fetched if it is not there.

    Args:
        key: config key that asks for the weights, for messages.
        value: its value, for messages.
        what: the weights in words, for messages.
        url: where they are published; eight or more hexadecimal digits behind a dash, at the end of the file's name,
            are the first ones of its SHA-256 digest.

    Raises:
        RequestError: if the file cannot be fetched, within about ten seconds where there is no network. Nothing is
            left behind.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / os.path.basename(urlsplit(url).path)
    if file.is_file():
        return file
    digest = re.search(r"-([a-f0-9]{8,})\.", file.name)
    try:
        connect(url)
        folder.mkdir(parents=True, exist_ok=True)
        with _timeout(SECONDS_WITHOUT_DATA):
            torch.hub.download_url_to_file(url, str(file), digest and digest.group(1), sys.stderr.isatty())
    except (OSError, RuntimeError) as error:  # RuntimeError: another digest than promised
        if isinstance(error, HTTPError):
            error.close()
        remedy = f"put {url} into the folder {folder}, or give the path of a file of weights"
        raise RequestError(Problem(key, value, _missing(what, error, remedy))) from error
    return file


def from_hub(key: str, value: str, what: str, repository: str, filename: str | None = None) -> Path:
    """Return the file of weights of a Hugging Face repository in the local cache, fetched if it is not there.

    Args:
        key: config key that asks for the weights, for messages.
        value: its value, for messages.
        what: the weights in words, for messages.
        repository: name of the repository, with @revision behind if not the newest.
        filename: the file; None looks for the usual names.

    Raises:
        RequestError: if the file cannot be fetched, within about ten seconds where there is no network.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    name, _, revision = repository.partition("@")
    names = HUB_FILES if filename is None else (filename,)
    for local in (True, False):
        for file in names:
            try:
                if not local:
                    connect(constants.ENDPOINT)
                found = hf_hub_download(name, file, revision=revision or None, local_files_only=local)
                return Path(found)
            except LocalEntryNotFoundError as error:  # not in the cache and, if asked, not to be had
                failure: Exception = error
                if not local:
                    break
            except EntryNotFoundError as error:  # the repository has no such file
                failure = error
            except Exception as error:  # of the network library that the client uses
                failure = error
                break
    folder = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    remedy = f"run `hf download {name} {names[0]}` on a machine with a network and copy the folder {folder}"
    message = _missing(what, failure, f"{remedy}, or give the path of a file of weights")
    raise RequestError(Problem(key, value, message)) from failure


def connect(url: str) -> None:
    """Open and close a connection to a URL's machine, or to the proxy that stands before it.

    Raises:
        OSError: if there is none within eight seconds, whatever it is that hangs.
    """
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy is not None and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    address = (parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443))
    failures: list[OSError] = [TimeoutError(f"no answer from {address[0]} within {SECONDS_TO_CONNECT:g} seconds")]

    def attempt() -> None:
        try:
            socket.create_connection(address, timeout=SECONDS_TO_CONNECT).close()
            failures.clear()
        except OSError as error:
            failures[:] = [OSError(f"cannot reach {address[0]}: {error.strerror or error}")]

    thread = threading.Thread(target=attempt, daemon=True)  # resolving a name has no time limit of its own
    thread.start()
    thread.join(SECONDS_TO_CONNECT)
    if found := list(failures):
        raise found[0]


def read_state(key: str, value: str, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file that torch.save wrote: a state dict, or a checkpoint of a run with one inside.

    Raises:
        RequestError: if the file cannot be read or holds no tensors by name.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise RequestError(Problem(key, value, f"cannot be read ({error.strerror or error})")) from error
    except Exception as error:  # a damaged file raises almost anything; torch's text advises to let the file run code
        message = f"is no file of weights that torch.save wrote ({type(error).__name__})"
        raise RequestError(Problem(key, value, message)) from error
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not any(isinstance(tensor, Tensor) for tensor in state.values()):
        raise RequestError(Problem(key, value, "holds no tensors by name"))
    tensors = OrderedDict((name, tensor) for name, tensor in state.items() if isinstance(tensor, Tensor))
    if not all(name.startswith("net.") for name in tensors):
        tensors._metadata = getattr(state, "_metadata", None)  # versions of the layers, as torch.save keeps them
        return tensors
    while all(name.startswith("net.") for name in tensors):
        tensors = OrderedDict((name.removeprefix("net."), tensor) for name, tensor in tensors.items())
    return tensors


def densenet_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a DenseNet's weights under torchvision's names of today; the published files have those of before 2019."""
    return {re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", name): tensor for name, tensor in state.items()}


def load_state(net: nn.Module, state: Mapping[str, Tensor], head_names: tuple[str, ...]) -> None:
    """Load all weights but those of a head for other classes, in place; grey images get the colours' weights summed.

    Raises:
        ValueError: if a tensor outside the head is missing or has another shape; nothing is loaded.
    """
    own, given = net.state_dict(), dict(state)
    for name, tensor in own.items():
        if tensor.ndim == 4 and name in given and given[name].ndim == 4:
            colours = (tensor.shape[1], given[name].shape[1])
            if colours == (1, 3) and not _in_heads(name, head_names):
                given[name] = given[name].sum(1, keepdim=True)
    wrong = [name for name, tensor in own.items() if name not in given or given[name].shape != tensor.shape]
    wrong = [name for name in wrong if not name.endswith("num_batches_tracked")]
    faults = [name for name in wrong if not _in_heads(name, head_names)]
    if faults:
        raise ValueError(
            f"{len(faults)} of {len(own)} tensors are missing or have another shape, the first is {faults[0]}"
        )
    new_head = any(_in_heads(name, head_names) for name in wrong)
    kept = OrderedDict((n, given[n]) for n in own if n in given and not (new_head and _in_heads(n, head_names)))
    kept._metadata = getattr(state, "_metadata", None) or own._metadata
    net.load_state_dict(kept, strict=False)


def unloaded(first: nn.Module, second: nn.Module, head_names: tuple[str, ...]) -> list[str]:
    """Return the tensors outside the head in which two nets differ that were drawn apart and loaded from one file."""
    other = second.state_dict()
    return [
        name
        for name, tensor in first.state_dict().items()
        if not _in_heads(name, head_names) and not torch.equal(tensor, other[name])
    ]


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Keep a library's logger below errors from speaking."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _in_heads(name: str, head_names: tuple[str, ...]) -> bool:
    return any(name.startswith(f"{head}.") for head in head_names)


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _missing(what: str, error: Any, remedy: str) -> str:
    return f"{what} are not on this machine and cannot be fetched ({_first_line(error)}); {remedy}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]
