from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import PIL
import pytest
import torch
from torch import Tensor

from resweep.data import cache
from resweep.data.cache import cached, facts_digest, file_facts, remembered

SHAPE = (50, 3, 4, 5)
PREPARE = """
import sys, time
from resweep.data.cache import cached

def fill(images):
    images[:20] = 7
    print("filling", flush=True)
    if sys.argv[1] == "slow":
        time.sleep(float(sys.argv[2]))
    images[20:] = 8

images = cached("entry", ["facts"], (50, 3, 4, 5), fill)
print("sum", int(images.sum()), flush=True)
"""

USE = """
import sys, torch
from resweep.data.cache import cached
from resweep.data.samples import InMemory

def private():
    with open("/proc/self/smaps_rollup") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon"))

before = private()
images = cached("entry", ["facts"], (8000, 3, 32, 32), lambda images: images.fill_(5))
samples = InMemory(images, torch.zeros(8000, dtype=torch.int64))
for part in torch.randperm(8000).split(6000):
    chosen = samples.take(part)
    for batch in torch.arange(len(chosen)).split(100):
        assert int(chosen.batch(batch)[0].amin()) == 5
print(private() - before, flush=True)
sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that is empty."""
    monkeypatch.setenv("RESWEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_said", set())
    return tmp_path / "cache"


class Filling:
    """Fills with a value and counts how often."""

    def __init__(self, value: int) -> None:
        self.value, self.calls = value, 0

    def __call__(self, images: Tensor) -> None:
        assert images.shape == SHAPE and images.dtype == torch.uint8
        self.calls += 1
        images.copy_(torch.arange(images.numel()).add(self.value).remainder(251).view(SHAPE))


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", PREPARE, *words], stdout=subprocess.PIPE, text=True)


def test_the_second_call_gives_the_same_pixels_without_filling(folder: Path) -> None:
    first, second = Filling(1), Filling(2)
    one = cached("entry", ["a", 1], SHAPE, first)
    other = cached("entry", ["a", 1], SHAPE, second)
    assert torch.equal(one, other) and (first.calls, second.calls) == (1, 0)
    assert one.flatten()[:3].tolist() == [1, 2, 3]
    assert entries(folder) == ["entry.images"]


@pytest.mark.parametrize("facts", [["a", 2], ["a"], ["a1"], []])
def test_other_facts_replace_the_entry(folder: Path, facts: list[object]) -> None:
    old = cached("entry", ["a", 1], SHAPE, Filling(1))
    before = old.clone()
    new = Filling(2)
    assert cached("entry", facts, SHAPE, new).flatten()[0] == 2 and new.calls == 1
    assert torch.equal(old, before)  # who has mapped the old one keeps it
    assert entries(folder) == ["entry.images"]


def test_another_shape_of_the_same_size_is_another_entry() -> None:
    cached("entry", [], SHAPE, Filling(1))
    calls = []
    assert cached("entry", [], (50, 3, 5, 4), calls.append).shape == (50, 3, 5, 4)
    assert len(calls) == 1


def test_writing_into_the_images_does_not_reach_the_file() -> None:
    cached("entry", [], SHAPE, Filling(1)).zero_()
    assert cached("entry", [], SHAPE, Filling(2)).flatten()[0] == 1


def test_a_damaged_entry_is_made_anew(folder: Path) -> None:
    cached("entry", [], SHAPE, Filling(1))
    path = folder / "entry.images"
    for damaged in (path.read_bytes()[:-1], b"", b"something else"):
        path.write_bytes(damaged)
        again = Filling(1)
        assert cached("entry", [], SHAPE, again).flatten()[0] == 1 and again.calls == 1


def header(folder: Path) -> bytes:
    return (folder / "entry.images").read_bytes()[:200]


def test_an_entry_that_may_not_be_on_disk_is_good_until_the_machine_stops(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_to_disk", lambda descriptor, digest: os.close(descriptor))
    monkeypatch.setattr(cache, "_machine_start", lambda: "start 1")
    cached("entry", [], SHAPE, Filling(1))
    second = Filling(2)
    assert cached("entry", [], SHAPE, second).flatten()[0] == 1
    monkeypatch.setattr(cache, "_machine_start", lambda: "start 2")
    assert cached("entry", [], SHAPE, second).flatten()[0] == 2 and second.calls == 1


@pytest.mark.parametrize("start", ["start 1", ""])
def test_an_entry_on_disk_is_good_for_ever(folder: Path, monkeypatch: pytest.MonkeyPatch, start: str) -> None:
    monkeypatch.setattr(cache, "_machine_start", lambda: start)
    cached("entry", [], SHAPE, Filling(1))
    deadline = time.monotonic() + 30
    while b"on disk" not in header(folder):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    monkeypatch.setattr(cache, "_machine_start", lambda: "start 2")
    assert cached("entry", [], SHAPE, Filling(2)).flatten()[0] == 1


def test_what_fill_raises_is_passed_on_and_nothing_is_kept(folder: Path) -> None:
    def broken(images: Tensor) -> None:
        images.fill_(3)
        raise FileNotFoundError(2, "gone", "picture.jpg")

    with pytest.raises(FileNotFoundError, match="picture"):
        cached("entry", [], SHAPE, broken)
    assert entries(folder) == []
    assert cached("entry", [], SHAPE, Filling(1)).flatten()[0] == 1


def test_a_killed_writer_leaves_nothing_that_is_used(folder: Path) -> None:
    process = start("slow", "60")
    assert process.stdout is not None and process.stdout.readline() == "filling\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert [name.endswith(".part") for name in entries(folder)] == [True]
    again = Filling(1)
    assert cached("entry", ["facts"], SHAPE, again).flatten()[0] == 1 and again.calls == 1
    assert entries(folder) == ["entry.images"]


def test_of_two_processes_one_fills_and_the_other_waits(folder: Path) -> None:
    slow = start("slow", "0.5")
    assert slow.stdout is not None and slow.stdout.readline() == "filling\n"
    waiting = Filling(1)
    images = cached("entry", ["facts"], SHAPE, waiting)
    assert waiting.calls == 0
    assert int(images.sum()) == 60 * (20 * 7 + 30 * 8)
    assert slow.communicate()[0] == f"sum {int(images.sum())}\n"
    assert entries(folder) == ["entry.images"]


def test_a_cache_that_cannot_be_written_is_said_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.write_text("a file where the folder should be")
    fill = Filling(1)
    images = [cached("entry", [], SHAPE, fill) for _ in range(2)]
    assert torch.equal(*images) and fill.calls == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "kept in memory" in said.err
    assert remembered("key", lambda: [1.5]) == [1.5]


def test_a_full_disk_is_noticed_before_filling(
    monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    fill = Filling(1)
    assert cached("entry", [], SHAPE, fill).flatten()[0] == 1 and fill.calls == 1
    assert "No space left" in capsys.readouterr().err
    assert entries(folder) == []


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("RESWEEP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == tmp_path / "xdg" / "resweep"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / ".cache" / "resweep"
    monkeypatch.setenv("HOME", "")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where the user has no home at all
    assert cache.cache_folder() == Path(tempfile.gettempdir()) / f"resweep-{os.getuid()}"


@pytest.fixture
def without_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of a user without a home, among the temporary files of all users."""
    monkeypatch.delenv("RESWEEP_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"resweep-{os.getuid()}"


def test_the_folder_among_temporary_files_is_for_its_user_only(without_home: Path) -> None:
    cached("entry", [], SHAPE, Filling(1))
    assert without_home.stat().st_mode & 0o777 == 0o700
    assert cached("entry", [], SHAPE, Filling(2)).flatten()[0] == 1
    assert remembered("key", lambda: 1) == remembered("key", lambda: 2) == 1


@pytest.mark.parametrize("planted", ["by another user", "open to all", "a link"])
def test_a_folder_that_another_user_could_fill_is_not_used(
    without_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], planted: str
) -> None:
    cached("entry", [], SHAPE, Filling(1))
    remembered("key", lambda: 1)
    if planted == "by another user":
        user = os.getuid() + 1
        monkeypatch.setattr(os, "getuid", lambda: user)
        without_home.rename(without_home.with_name(f"resweep-{user}"))
    elif planted == "open to all":
        without_home.chmod(0o777)
    else:
        without_home.symlink_to(without_home.rename(without_home.with_name("elsewhere")))
    assert cached("entry", [], SHAPE, Filling(2)).flatten()[0] == 2
    assert remembered("key", lambda: 2) == 2
    assert "is not a folder that only this user can write to" in capsys.readouterr().err


@pytest.mark.parametrize("changed", ["Pillow", "torchvision", "format"])
def test_another_decoder_makes_all_anew(monkeypatch: pytest.MonkeyPatch, changed: str) -> None:
    again = Filling(2)
    cached("entry", [], SHAPE, Filling(1))
    remembered("key", lambda: 1)
    if changed == "Pillow":
        monkeypatch.setattr(PIL, "__version__", "0.1")
    elif changed == "torchvision":
        monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1")
    else:
        monkeypatch.setattr(cache, "_FORMAT", 0)
    monkeypatch.setattr(cache, "_versions", cache._versions.__wrapped__)
    assert cached("entry", [], SHAPE, again).flatten()[0] == 2 and again.calls == 1
    assert remembered("key", lambda: 2) == 2


def test_names_become_files_of_the_folder(folder: Path) -> None:
    cached("a/b: c", [], SHAPE, Filling(1))
    assert entries(folder) == ["a_b_c.images"]


def test_results_are_computed_once(folder: Path) -> None:
    calls: list[str] = []

    def compute(key: str) -> list[float]:
        calls.append(key)
        return [0.1, 1 / 3, len(calls)]

    first = remembered("x", lambda: compute("x"))
    assert remembered("x", lambda: compute("x")) == first == [0.1, 1 / 3, 1]
    assert remembered("y", lambda: compute("y"))[2] == 2
    (folder / "results.json").write_text("{ broken")
    assert remembered("x", lambda: compute("x"))[2] == 3
    assert calls == ["x", "y", "x"]


def test_what_many_want_at_once_is_computed_once(folder: Path) -> None:
    calls = []

    def compute() -> int:
        calls.append(1)
        time.sleep(0.3)
        return len(calls)

    with ThreadPoolExecutor(4) as pool:  # a lock tells threads apart as it does processes
        assert list(pool.map(lambda _: remembered("key", compute), range(4))) == [1] * 4
    assert len(calls) == 1
    assert {path.name for path in folder.iterdir()} == {"results.json", ".results.json.lock"}


def test_other_results_do_not_wait() -> None:
    done = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(remembered, "slow", lambda: done.wait(60))
        try:
            assert remembered("quick", lambda: 2) == 2
        finally:
            done.set()
        assert slow.result() is True
    assert remembered("slow", lambda: "anew") is True and remembered("quick", lambda: "anew") == 2


def test_results_that_are_written_at_once_all_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    read = cache._read_results

    def slowly(path: Path) -> dict[str, object]:
        known = read(path)
        time.sleep(0.05)
        return known

    monkeypatch.setattr(cache, "_read_results", slowly)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: remembered(str(number), lambda: number), range(4)))
    assert [remembered(str(number), lambda: "anew") for number in range(4)] == [0, 1, 2, 3]


def test_a_result_that_fails_is_not_kept(folder: Path) -> None:
    def fail() -> None:
        raise FileNotFoundError(2, "gone", "picture.jpg")

    with pytest.raises(FileNotFoundError, match="picture"):
        remembered("key", fail)
    assert entries(folder) == [] and remembered("key", lambda: 1) == 1


def test_only_the_newest_results_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_RESULTS", 2)
    for number in range(4):
        remembered(str(number), lambda number=number: number)
    assert [remembered(str(number), lambda: "anew") for number in (3, 2, 1)] == [3, 2, 1]
    assert remembered("0", lambda: "anew") == "anew"


def test_facts_are_told_apart() -> None:
    start = time.perf_counter()
    lists = [["a", "b"], ["ab"], ["a", b"b"], [("a", "b")], [1], ["1"], [1.0], [True], [None], [], [Path("a")]]
    assert len({facts_digest(facts) for facts in lists}) == len(lists)
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("change", ["written", "replaced"])
def test_a_file_with_the_size_and_time_of_another_is_told_apart(tmp_path: Path, change: str) -> None:
    path, other = tmp_path / "path", tmp_path / "other"
    for file, text in ((path, "old"), (other, "new")):
        file.write_text(text)
        os.utime(file, (0, 0))
    before = file_facts(path)
    assert file_facts(path) == before
    time.sleep(0.02)  # the system's clock of files ticks every 10 ms at the slowest
    if change == "written":
        path.write_text("new")
        os.utime(path, (0, 0))
    else:
        other.replace(path)
    assert file_facts(path) != before
    with pytest.raises(FileNotFoundError):
        file_facts(other.with_name("missing"))


def mapped_kilobytes(process: int, name: str) -> tuple[int, int]:
    """Resident and proportional size of a mapped file in a process."""
    resident = proportional = 0
    inside = False
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:  # the line of a mapping: addresses, rights, ..., file
            inside = line.endswith(name)
        elif inside and line.startswith(("Rss:", "Pss:")):
            resident += int(line.split()[1]) * line.startswith("Rss:")
            proportional += int(line.split()[1]) * line.startswith("Pss:")
    return resident, proportional


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's accounts of memory")
def test_processes_share_the_images_and_copy_batches_only(folder: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", USE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    own = [int(process.stdout.readline()) for process in processes]
    sizes = [mapped_kilobytes(process.pid, "entry.images") for process in processes]
    for process in processes:
        process.communicate("\n")
    total = 8000 * 3072 / 1024
    for private, (resident, proportional) in zip(own, sizes, strict=True):
        assert private < 12_000  # 12 MB: a batch and what the allocator keeps; the images are 24 MB
        assert resident >= total and proportional < 0.6 * total
