"""What a search proposes: Hydra's override grammar as Optuna's distributions, and the configs that proposals become.

Everything a trial's config is made from lies in the sweep's ``space.yaml``: one composed, unresolved config for each
combination of group choices, and the text of every dimension. ``conf/`` is not read again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.core.utils import setup_globals
from omegaconf import OmegaConf

from resweep.config import flatten, freeze
from resweep.errors import Problem
from resweep.schema import check
from resweep.sweep.overrides import Setting, set_value, settings_of

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

SPACE_FILE = "space.yaml"
SPACE_END = "...\n"  # YAML's mark of a document's end: shows that the file is whole


@dataclass(frozen=True)
class Dimension:
    """One axis of a search.

    Args:
        text: the override, as given; of listed values with each one written out.
        is_group: whether the values are choices of a config group.
    """

    text: str
    is_group: bool = False

    @classmethod
    def of(cls, override: Override, is_group: bool, settings: Sequence[Setting] | None = None) -> Dimension:
        """Return the dimension of a sweep override.

        Args:
            override: parsed with Hydra's loader, which knows the choices that a glob stands for.
            is_group: whether it names a config group.
            settings: its settings where they differ from what is written, as a repaired wrong choice's do.
        """
        value = override.value()
        if settings is not None:
            texts = [text.split("=", 1)[1] for _, text, _ in settings]
        elif isinstance(value, ChoiceSweep):  # the order is that of the text, also where it is to be shuffled
            texts = [Override._get_value_element_as_str(one) for one in value.list]
        elif isinstance(value, RangeSweep) and value.shuffle:
            texts = [str(one) for one in value.range()]
        elif isinstance(value, (RangeSweep, IntervalSweep)):
            return cls(override.input_line or "")
        else:
            texts = list(override.sweep_string_iterator())
        written = ",".join(texts) if len(texts) > 1 else f"choice({texts[0]})"
        if tags := sorted(getattr(value, "tags", ())):
            written = f"tag({','.join(tags)},choice({','.join(texts)}))"
        return cls(f"{override.get_key_element()}={written}", is_group)

    @cached_property
    def override(self) -> Override:
        """The parsed text."""
        return OverridesParser.create().parse_override(self.text)

    @property
    def key(self) -> str:
        """Name of the dimension: the key or group, without the sign that adds it."""
        return self.override.key_or_group

    @cached_property
    def settings(self) -> list[Setting]:
        """The settings of listed values."""
        return settings_of(self.override) if self._sweep is None else []

    @cached_property
    def _sweep(self) -> RangeSweep | IntervalSweep | None:
        """The range or interval; None for listed values."""
        value = self.override.value()
        return value if isinstance(value, (IntervalSweep, RangeSweep)) else None

    @cached_property
    def steps(self) -> Sequence[int] | Sequence[float]:
        """The values of a range, ascending: exactly those that Hydra lists."""
        listed = self._sweep.range()  # type: ignore[union-attr]
        values = listed if isinstance(listed, range) else list(listed)
        return values if len(values) < 2 or values[0] < values[-1] else values[::-1]

    @cached_property
    def names(self) -> tuple[Any, ...]:
        """What Optuna calls the listed values: themselves where it can keep them apart, else their texts."""
        values = tuple(value for value, _, _ in self.settings)
        plain = all(value is None or isinstance(value, (bool, int, float, str)) for value in values)
        if plain and len(set(values)) == len(values):  # True equals 1
            return values
        return tuple(text.split("=", 1)[1] for _, text, _ in self.settings)

    @cached_property
    def distribution(self) -> BaseDistribution:
        """Optuna's distribution of the dimension."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        sweep = self._sweep
        if sweep is None:
            return CategoricalDistribution(self.names)
        if isinstance(sweep, IntervalSweep):
            kind = IntDistribution if isinstance(sweep.start, int) else FloatDistribution
            return kind(sweep.start, sweep.end, log="log" in sweep.tags)
        low, count = self.steps[0], len(self.steps)
        if isinstance(low, int):
            return IntDistribution(low, self.steps[-1], step=abs(int(sweep.step)))
        step = abs(Decimal(str(sweep.step)))  # in decimals, as Optuna counts
        return FloatDistribution(low, float(Decimal(str(low)) + (count - 1) * step), step=float(step))

    def problems(self) -> list[Problem]:
        """Return what keeps the dimension from being searched."""
        given = self.text.split("=", 1)[1]
        sweep = self._sweep
        tags = self.override.value().tags
        if unknown := sorted(set(tags) - ({"log"} if isinstance(sweep, IntervalSweep) else set())):
            return [Problem(self.key, given, f"has the tag {unknown[0]}; there is only tag(log,interval(LOW,HIGH))")]
        if isinstance(sweep, IntervalSweep):
            if sweep.start > sweep.end:
                return [Problem(self.key, given, "ends before it begins: interval(LOW,HIGH)")]
            if "log" in sweep.tags and sweep.start <= 0:
                return [Problem(self.key, given, "must begin above 0 to be searched by its logarithm")]
        elif sweep is not None:
            return [] if len(self.steps) else [Problem(self.key, given, "is empty: range(START,STOP,STEP)")]
        texts = [text for _, text, _ in self.settings]
        if repeated := next((text for text in texts if texts.count(text) > 1), None):
            said = f"has {repeated.split('=', 1)[1]} more than once; give every value once"
            return [Problem(self.key, ",".join(text.split("=", 1)[1] for text in texts), said)]
        return []

    def setting(self, value: Any) -> Setting:
        """Return the setting of a value that Optuna proposes."""
        if self._sweep is None:
            return self.settings[int(self.distribution.to_internal_repr(value))]
        return self._written(self.steps[self._place(value)] if isinstance(self._sweep, RangeSweep) else value)

    def _place(self, value: float) -> int:
        distribution: Any = self.distribution
        return 0 if len(self.steps) == 1 else round((value - distribution.low) / distribution.step)

    def extremes(self) -> list[Setting]:
        """Return the settings to try out before a search: every listed value, or the lowest and the highest."""
        if self._sweep is None:
            return self.settings
        ends = self.steps if isinstance(self._sweep, RangeSweep) else (self._sweep.start, self._sweep.end)
        return [self._written(end) for end in dict.fromkeys((ends[0], ends[-1]))]

    def _written(self, value: Any) -> Setting:
        text = f"{self.override.get_key_element()}={value!r}"
        parsed = OverridesParser.create().parse_override(text)
        return parsed.value(), text, parsed

    def values(self) -> list[str]:
        """Return the values as written, a range or an interval as one."""
        return [text.split("=", 1)[1] for _, text, _ in self.settings] or [self.override.get_value_string()]


class Space:
    """All dimensions of a search, and the configs of its proposals.

    Args:
        content: of ``space.yaml``.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        setup_globals()  # Hydra's resolvers (${now:...}), for values that a template leaves unresolved
        self.dimensions = [Dimension(**one) for one in content["dimensions"]]
        self.groups = {one.key for one in self.dimensions if one.is_group}
        self.templates = {tuple(sorted(one["choices"])): one for one in content["templates"]}

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return Optuna's distribution of every dimension, in the order of the command line."""
        return {dimension.key: dimension.distribution for dimension in self.dimensions}

    def settings(self, params: Mapping[str, Any]) -> list[Setting]:
        """Return what a proposal sets, in the order of the command line.

        Args:
            params: name of a dimension to the value that Optuna proposes.
        """
        return [dimension.setting(params[dimension.key]) for dimension in self.dimensions]

    def _choices(self, settings: Sequence[Setting]) -> tuple[str, ...]:
        return tuple(sorted(text for _, text, override in settings if override.key_or_group in self.groups))

    def can_compose(self, settings: Sequence[Setting]) -> bool:
        """Whether there is a template for the group choices among some settings."""
        return self._choices(settings) in self.templates

    def frozen(self, settings: Sequence[Setting]) -> tuple[dict[str, Any], list[Problem]]:
        """Return the frozen config that settings make, the same as that of a plan with them, and what is wrong in it.

        Raises:
            RequestError: the config cannot be resolved.
        """
        template = self.templates[self._choices(settings)]
        config = OmegaConf.create(
            {**template["config"], "hydra": {"runtime": {"choices": template["runtime"]}}}, flags={"struct": True}
        )
        problems = []
        for setting in settings:
            if setting[2].key_or_group not in self.groups:
                problems += set_value(config, *setting)
        frozen = freeze(config)
        return frozen, problems + check(frozen, flatten(template["config"]))
