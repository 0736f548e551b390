"""Where published weights come from, with a server of the test's own, and what is said when they do not."""

from __future__ import annotations

import hashlib
import http.server
import io
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from resweep.errors import RequestError
from resweep.models import pretrained

CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()[:8]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch hub's folder, empty; no proxy stands between this machine and itself."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A server's address and the paths that were asked for; it has every file but those called missing."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404 if "missing" in self.path else 200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()
        thread.join()


def fetch(url: str) -> Path:
    return pretrained.from_url("model.weights", "DEFAULT", "the weights", url)


def test_a_file_is_fetched_once(hub: Path, server: tuple[str, list[str]]) -> None:
    url, asked = server
    for _ in range(2):
        file = fetch(f"{url}/net-{DIGEST}.pth")
        assert file == hub / f"net-{DIGEST}.pth" and file.read_bytes() == CONTENT
    assert asked == [f"/net-{DIGEST}.pth"]


@pytest.mark.parametrize("name", ["net-0123abcd.pth", "missing.pth"])
def test_a_wrong_or_missing_file_leaves_nothing(hub: Path, server: tuple[str, list[str]], name: str) -> None:
    url, _ = server
    with pytest.raises(RequestError) as caught:
        fetch(f"{url}/{name}")
    text = str(caught.value)
    assert text.startswith("model.weights=DEFAULT: the weights are not on this machine and cannot be fetched (")
    assert f"put {url}/{name} into the folder {hub}, or give the path of a file" in text
    assert list(hub.iterdir()) == []
    assert socket.getdefaulttimeout() is None


def refuse(address: tuple[str, int], timeout: float) -> None:
    raise OSError(101, "Network is unreachable")


def hang(address: tuple[str, int], timeout: float) -> socket.socket:
    time.sleep(1)
    return socket.socket()


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (refuse, "cannot reach files.example: Network is unreachable"),
        (hang, "no answer from files.example within 0.2 seconds"),
    ],
)
def test_without_a_network_it_ends_soon(
    hub: Path, monkeypatch: pytest.MonkeyPatch, behave: object, reason: str
) -> None:
    monkeypatch.setattr(socket, "create_connection", behave)
    monkeypatch.setattr(pretrained, "SECONDS_TO_CONNECT", 0.2)
    start = time.monotonic()
    with pytest.raises(RequestError) as caught:
        fetch("https://files.example/net.pth")
    assert time.monotonic() - start < 0.9
    assert f"({reason})" in str(caught.value)
    assert not hub.exists()


def test_the_proxy_is_what_must_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, int]] = []

    def record(address: tuple[str, int], timeout: float) -> socket.socket:
        tried.append(address)
        return socket.socket()

    monkeypatch.setattr(socket, "create_connection", record)
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "near.example")
    pretrained.connect("https://files.example/net.pth")
    pretrained.connect("https://near.example/net.pth")
    assert tried == [("proxy.example", 3128), ("near.example", 443)]


def test_hub_weights_come_from_the_cache_or_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", refuse)
    ask = ("model.pretrained", "true", "the weights of net", "owner/net")
    with pytest.raises(RequestError) as caught:
        pretrained.from_hub(*ask)
    text = str(caught.value)
    assert text.startswith("model.pretrained=true: the weights of net are not on this machine and cannot be fetched")
    assert "Network is unreachable" in text and "hf download owner/net model.safetensors" in text
    assert f"copy the folder {tmp_path}/models--owner--net" in text
    assert list(tmp_path.iterdir()) == []

    snapshot = tmp_path / "models--owner--net" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (tmp_path / "models--owner--net" / "refs").mkdir()
    (tmp_path / "models--owner--net" / "refs" / "main").write_text("0" * 40)
    (snapshot / "pytorch_model.bin").write_bytes(CONTENT)
    assert pretrained.from_hub(*ask).read_bytes() == CONTENT


def test_a_path_is_told_from_a_name(tmp_path: Path) -> None:
    assert not any(pretrained.is_path(name) for name in ("DEFAULT", "IMAGENET1K_V1"))
    assert all(pretrained.is_path(path) for path in ("net.pth", "folder/net", "/net", "net.safetensors"))
    with pytest.raises(RequestError, match=r"model.weights=.*none.pth: there is no such file"):
        pretrained.existing("model.weights", str(tmp_path / "none.pth"))


@pytest.mark.parametrize(
    "wrap", [dict, lambda state: {"state_dict": state}, lambda s: {f"net.net.{n}": t for n, t in s.items()}]
)
def test_a_state_dict_is_read_alone_or_from_a_checkpoint(tmp_path: Path, wrap: object) -> None:
    state = nn.Linear(2, 3).state_dict()
    torch.save(wrap(state), tmp_path / "net.pth")
    read = pretrained.read_state("key", "value", tmp_path / "net.pth")
    assert list(read) == ["weight", "bias"] and torch.equal(read["weight"], state["weight"])


@pytest.mark.parametrize("content", [b"", b"hello", "list"])
def test_what_holds_no_weights_is_refused(tmp_path: Path, content: bytes | str) -> None:
    if content == "list":
        buffer = io.BytesIO()
        torch.save([1, 2], buffer)
        content = buffer.getvalue()
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(RequestError, match=r"model.weights=x: (is no file of weights|holds no tensors)"):
        pretrained.read_state("model.weights", "x", tmp_path / "net.pth")


class Unknown:
    """Of no type that a file of weights may hold."""


def old_format() -> bytes:
    buffer = io.BytesIO()
    torch.save(nn.Linear(2, 3).state_dict(), buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def whole_object() -> bytes:
    buffer = io.BytesIO()
    torch.save(Unknown(), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"hello", "KeyError"),
        (b"<html>not found</html>", "UnpicklingError"),
        (whole_object(), "UnpicklingError"),
        *[(old_format()[:length], r"\w+") for length in (10, 50, 100, 200, 400)],
    ],
    ids=["text", "page", "object", "cut at 10", "cut at 50", "cut at 100", "cut at 200", "cut at 400"],
)
def test_an_unreadable_file_is_named_without_the_unsafe_advice_of_torch(
    tmp_path: Path, content: bytes, error: str
) -> None:
    (tmp_path / "bad.pth").write_bytes(content)
    message = rf"^model.weights=bad.pth: is no file of weights that torch.save wrote \({error}\)$"
    with pytest.raises(RequestError, match=message):
        pretrained.read_state("model.weights", "bad.pth", tmp_path / "bad.pth")


def test_a_file_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"^model.weights=x: cannot be read \(Is a directory\)$"):
        pretrained.read_state("model.weights", "x", tmp_path)


def test_a_state_is_loaded_whole_or_not_at_all() -> None:
    torch.manual_seed(0)
    source, target = (nn.Sequential(nn.Conv2d(c, 4, 1), nn.Linear(4, k)) for c, k in ((3, 9), (1, 2)))
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    state = source.state_dict()
    pretrained.load_state(target, state, ("1",))
    after = target.state_dict()
    torch.testing.assert_close(after["0.weight"], state["0.weight"].sum(1, keepdim=True))
    assert torch.equal(after["0.bias"], state["0.bias"])
    assert torch.equal(after["1.weight"], before["1.weight"]) and torch.equal(after["1.bias"], before["1.bias"])

    del state["0.bias"]
    with pytest.raises(ValueError, match=r"^1 of 4 tensors are missing or have another shape, the first is 0.bias$"):
        pretrained.load_state(target, state, ("1",))


def test_a_head_for_as_many_classes_is_kept() -> None:
    source, target = (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(4, 2)) for _ in range(2))
    pretrained.load_state(target, source.state_dict(), ("1",))
    assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in target.state_dict().items())


def test_structure_only_lasts_as_long_as_its_block() -> None:
    assert pretrained.wanted()
    with pytest.raises(RuntimeError), pretrained.structure_only():
        assert not pretrained.wanted()
        raise RuntimeError
    assert pretrained.wanted()
