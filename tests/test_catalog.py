from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from resweep.catalog import describe
from resweep.config import shipped
from resweep.errors import RequestError

CONF = shipped("conf")
GROUPS = sorted({path.parent.name for path in CONF.glob("*/*.yaml")})
FILES = sorted(CONF.glob("*/*.yaml"))
UNFINISHED = set(
    ["a", "an", "and", "as", "at", "by", "for", "from", "in", "of", "on", "or", "than", "the", "to", "under", "with"]
)


def test_every_group_with_its_default_and_choices() -> None:
    lines = describe(None, []).splitlines()
    rows: dict[str, str] = {}
    for line in lines[1 : lines.index("")]:
        group = next(reversed(rows)) if line.startswith(" ") else line.split()[0]
        rows[group] = rows.get(group, "") + line
    assert max(map(len, lines)) <= 110
    assert sorted(rows) == GROUPS
    defaults = yaml.safe_load((CONF / "train.yaml").read_text())["defaults"]
    for item in defaults:
        if isinstance(item, dict) and (group := next(iter(item))) in rows:
            assert rows[group].split()[1] == (item[group] or "-")
    for path in FILES:
        assert path.stem in rows[path.parent.name]
    models = [name.strip() for name in rows["model"].split(maxsplit=2)[2].split(",")]
    assert models.index("resnet8") < models.index("resnet20") < models.index("resnet110")


@pytest.mark.parametrize("group", GROUPS)
def test_every_choice_of_a_group_with_its_first_comment(group: str) -> None:
    text = describe(group, [])
    lines = text.splitlines()
    assert f"choose with {group}=NAME" in lines[0]
    for path in (CONF / group).glob("*.yaml"):
        (line,) = [line for line in lines[2:-2] if line[1:].split("  ")[0].strip() == path.stem]
        said = next(one for one in path.read_text().splitlines() if one.startswith("# ") and "@package" not in one)
        assert said.removeprefix("# ") in line
    assert f"resweep list {group}/" in lines[-1]


def test_the_default_is_marked_and_values_are_shown_as_they_are_typed() -> None:
    lines = describe("optimizer", []).splitlines()
    assert [line.split()[0] for line in lines if line.startswith("*") and "default" not in line] == ["*momentum"]
    adam = next(number for number, line in enumerate(lines) if line.startswith(" adam "))
    shown = ["lr=0.001", "betas=[0.9,0.999]", "eps=1e-08", "weight_decay=0.0", "no_decay=[]", "layer_decay=1.0"]
    assert lines[adam + 1].split() == shown
    assert "nesterov=false" in describe("optimizer", []) and "subset=null" in describe("data", [])


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_choice_is_its_file_and_a_command(path: Path) -> None:
    name = f"{path.parent.name}/{path.stem}"
    text = describe(name, [])
    assert text.startswith(path.read_text().rstrip())
    assert text.endswith(f"resweep train {path.parent.name}={path.stem}")
    assert describe(f"{name}/", []) == text


def test_a_folder_of_the_users_own(tmp_path: Path) -> None:
    for name, lr in (("slow", 0.5), ("adam", 0.25)):
        (tmp_path / "optimizer").mkdir(exist_ok=True)
        (tmp_path / "optimizer" / f"{name}.yaml").write_text(f"# My {name}.\nlr: {lr}\n")
    (tmp_path / "colour").mkdir()
    (tmp_path / "colour" / "red.yaml").write_text("# Red.\n")
    text = describe("optimizer", [tmp_path])
    assert "My slow." in text and "lr=0.5" in text
    assert "My adam." not in text and "Kingma" in text  # Hydra takes the shipped one of two with the same name
    assert "colour" in describe(None, [tmp_path]) and "colour" not in describe(None, [])
    assert "Red." in describe("colour", [tmp_path])


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("optimzer", "optimizer"), ("optimizer/adm", "optimizer/adam"), ("zzz", None), ("optimizer/zzz", None),
     ("", None)],
)  # fmt: skip
def test_what_there_is_not(name: str, nearest: str | None) -> None:
    with pytest.raises(RequestError) as caught:
        describe(name, [])
    (problem,) = caught.value.problems
    assert (problem.key, problem.nearest) == (name, nearest)
    allowed = "adadelta, adagrad, adam" if name.startswith("optimizer/") else "augment, averaging, data"
    assert f"there are {allowed}" in problem.message


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("sheduler/none", "scheduler/none"), ("sheduler/cosin", "scheduler/cosine"), ("sheduler/zzz", "scheduler"),
     ("sheduler/", "scheduler"), ("zzz/none", None)],
)  # fmt: skip
def test_a_choice_of_a_misspelt_group(name: str, nearest: str | None) -> None:
    with pytest.raises(RequestError, match=r"is not a config group; there are augment, averaging, data") as caught:
        describe(name, [])
    (problem,) = caught.value.problems
    assert (problem.key, problem.nearest) == (name.partition("/")[0], nearest)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_first_comment_line_is_complete_on_its_own(path: Path) -> None:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "@package" not in line]
    first = lines[0].removeprefix("# ")
    assert first != lines[0] and first.count("(") == first.count(")")
    assert first[-1] not in ",;:" and first.split()[-1] not in UNFINISHED
    assert not lines[1].startswith("#") or lines[1].removeprefix("# ")[0].isupper()  # a sentence of its own


def test_a_config_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"--config-dir=.*nowhere: is not a folder"):
        describe(None, [tmp_path / "nowhere"])
