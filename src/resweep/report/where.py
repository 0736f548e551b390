"""The conditions of ``resweep compare --where``: a small grammar, read and judged without evaluating any code.

``condition = either ("or" either)*``, ``either = term ("and" term)*``, ``term = "not" term | "(" condition ")" |
NAME OPERATOR VALUE | NAME ["not"] "in" "(" VALUE ("," VALUE)* ")"``. Operators are ``== = != < <= > >=``. A value is
written as in an override; one with blanks or signs in it stands in quotation marks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from resweep.errors import Problem, RequestError, nearest_name
from resweep.report.words import value_text

OPTION = "--where"
DEEPEST = 50
LISTED = 8
"""Values of a column that are named where it has not the one that was asked for."""

EXAMPLE = '"optimizer==adam and lr<0.1"'

_TOKEN = re.compile(
    r"""\s*(?:(?P<sign>==|!=|<=|>=|=|<|>)|(?P<mark>[(),\[\]])|(?P<quoted>'[^']*'|"[^"]*")"""
    r"""|(?P<word>[^\s()\[\],<>=!'"]+))"""
)
_ORDER: dict[str, Callable[[float, float], bool]] = {
    "<": lambda ours, given: ours < given,
    "<=": lambda ours, given: ours <= given,
    ">": lambda ours, given: ours > given,
    ">=": lambda ours, given: ours >= given,
}
Test = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Token:
    """One piece of a condition.

    Args:
        kind: "sign", "mark", "quoted", "word" or "end".
        text: as written, quotation marks taken off.
        start: its first character in the condition.
    """

    kind: str
    text: str
    start: int

    def is_word(self, *words: str) -> bool:
        """Whether the token is one of these words, and not a quoted value."""
        return self.kind == "word" and self.text in words


@dataclass(frozen=True)
class Condition:
    """A condition that has been read.

    Args:
        text: as it was given.
        names: the columns it asks about, each with its place in the text, in their order.
        equal: the values that it asks for by ``==``, ``!=`` or ``in``, each behind its column.
        numeric: those of them that are compared by size.
        holds: says whether a row, by column name, meets it. A value that is missing equals ``null`` only, and is
            neither smaller nor larger than anything.
    """

    text: str
    names: list[Token]
    equal: list[tuple[str, Token]]
    numeric: frozenset[str]
    holds: Test

    def kept(self, rows: Iterable[Mapping[str, Any]], other: Mapping[str, str] | None = None) -> list[bool]:
        """Say for each row whether it meets the condition.

        Args:
            rows: value by column name; all rows have the same columns.
            other: what to say of names that exist elsewhere but are no columns of these rows.

        Raises:
            RequestError: a name is no column, or words are compared by size.
        """
        rows = list(rows)
        if rows:
            problems = [*self._unknown(rows[0], other or {}), *self._without_size(rows)]
            if problems:
                raise RequestError(problems)
        return [self.holds(row) for row in rows]

    def absent(self, rows: Iterable[Mapping[str, Any]]) -> list[str]:
        """Return a line for each value that the condition asks for and that no row has, with those that there are.

        Args:
            rows: as for :meth:`kept`, which has found the names to be columns.
        """
        rows = list(rows)
        lines = []
        for name, given in self.equal if rows else ():
            same = _equals(given)
            values = [row[name] for row in rows]
            if any(same(value) for value in values) or given.is_word("null", "None", "-"):
                continue
            there = list(dict.fromkeys(value_text(value) for value in values))
            more = f" and {len(there) - LISTED} more" if len(there) > LISTED else ""
            near = nearest_name(given.text, there)
            hint = "" if near is None or number(given.text) is not None else f"; did you mean {near}?"
            lines.append(f"{OPTION}: no row has {name} {given.text}; there are {', '.join(there[:LISTED])}{more}{hint}")
        return list(dict.fromkeys(lines))

    def _unknown(self, columns: Iterable[str], other: Mapping[str, str]) -> list[Problem]:
        known, problems = list(columns), []
        for token in {token.text: token for token in self.names if token.text not in known}.values():
            if token.text in other:
                problems.append(Problem(OPTION, self.text, f"{token.text} {other[token.text]}"))
                continue
            near = nearest_name(token.text, known)
            whole = None if near is None else self._with(token, near)
            message = f"{token.text} is not a column; there are {', '.join(known)}"
            problems.append(Problem(OPTION, self.text, message, whole))
        return problems

    def _without_size(self, rows: list[Mapping[str, Any]]) -> list[Problem]:
        problems = []
        for name in sorted(self.numeric & set(rows[0])):
            values = {value_text(row[name]): row[name] for row in rows if row[name] is not None}
            if values and not any(number(value) is not None for value in values.values()):
                some = ", ".join(list(values)[:6])
                message = f"{name} has no numbers to compare by size, but {some}; use ==, != or in"
                problems.append(Problem(OPTION, self.text, message))
        return problems

    def _with(self, token: Token, name: str) -> str:
        return self.text[: token.start] + name + self.text[token.start + len(token.text) :]


def parse_where(text: str) -> Condition:
    """Return the condition that a text states.

    Args:
        text: for example ``optimizer==adam and (lr<0.1 or dropout in (0, 0.3))``; ``and`` binds before ``or``.

    Raises:
        RequestError: the text is no condition; says at which place, and what could stand there.

    Example:
        >>> condition = parse_where("optimizer==adam and not lr>=0.1")
        >>> condition.kept([{"optimizer": "adam", "lr": 0.01}, {"optimizer": "sgd", "lr": 0.01}])
        [True, False]
    """
    return _Parser(text).condition()


def number(value: Any) -> float | None:
    """Return a config value or a written one as a number, None where it is none; truth values are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return None if math.isnan(found) else found


class _Parser:
    """Reads one condition from left to right; a method per rule of the grammar."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = self._tokens()
        self.place = 0
        self.names: list[Token] = []
        self.equal: list[tuple[str, Token]] = []
        self.numeric: set[str] = set()

    def condition(self) -> Condition:
        if self.next.kind == "end":
            raise RequestError(Problem(OPTION, self.text, f"is empty; a condition is for example {EXAMPLE}"))
        holds = self._either(0)
        if self.next.kind != "end":
            self._refuse("and, or, or the end")
        return Condition(self.text, self.names, self.equal, frozenset(self.numeric), holds)

    @property
    def next(self) -> Token:
        return self.tokens[self.place]

    def _tokens(self) -> list[Token]:
        tokens, place = [], 0
        while self.text[place:].strip():
            match = _TOKEN.match(self.text, place)
            if match is None:
                start = len(self.text) - len(self.text[place:].lstrip())
                quoted = "; a quotation mark is not closed" if self.text[start] in "'\"" else ""
                message = f"cannot be read at {self.text[start : start + 10]!r}{quoted}"
                raise RequestError(Problem(OPTION, self.text, f"{message}; a condition is for example {EXAMPLE}"))
            kind = str(match.lastgroup)
            written = match[kind]
            tokens.append(Token(kind, written[1:-1] if kind == "quoted" else written, match.start(kind)))
            place = match.end()
        return [*tokens, Token("end", "the end", len(self.text))]

    def _take(self) -> Token:
        token = self.next
        self.place += 1
        return token

    def _refuse(self, expected: str) -> NoReturn:
        found = "the end" if self.next.kind == "end" else repr(self.next.text)
        message = f"has {found} where {expected} should stand; a condition is for example {EXAMPLE}"
        raise RequestError(Problem(OPTION, self.text, message))

    def _either(self, depth: int) -> Test:
        parts = [self._both(depth)]
        while self.next.is_word("or"):
            self._take()
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else lambda row: any(part(row) for part in parts)

    def _both(self, depth: int) -> Test:
        parts = [self._term(depth)]
        while self.next.is_word("and"):
            self._take()
            parts.append(self._term(depth))
        return parts[0] if len(parts) == 1 else lambda row: all(part(row) for part in parts)

    def _term(self, depth: int) -> Test:
        if depth > DEEPEST:
            raise RequestError(Problem(OPTION, self.text, f"is nested more than {DEEPEST} deep"))
        if self.next.is_word("not"):
            self._take()
            inner = self._term(depth + 1)
            return lambda row: not inner(row)
        if self.next.kind == "mark" and self.next.text == "(":
            self._take()
            inside = self._either(depth + 1)
            self._close(")")
            return inside
        return self._comparison()

    def _close(self, mark: str) -> None:
        if self.next.kind != "mark" or self.next.text != mark:
            self._refuse(repr(mark))
        self._take()

    def _comparison(self) -> Test:
        if self.next.kind not in ("word", "quoted") or self.next.is_word("and", "or", "in"):
            self._refuse("the name of a column")
        token = self._take()
        self.names.append(token)
        name = token.text
        if self.next.is_word("in", "not"):
            return self._membership(name)
        if self.next.kind != "sign":
            self._refuse("==, !=, <, <=, >, >= or in")
        sign = self._take().text
        if sign in _ORDER:
            return self._by_size(name, sign)
        same = _equals(self._value(name))
        return (lambda row: not same(row[name])) if sign == "!=" else (lambda row: same(row[name]))

    def _by_size(self, name: str, sign: str) -> Test:
        given = number(self.next.text) if self.next.kind in ("word", "quoted") else None
        if given is None:
            self._refuse("a number")
        self._take()
        self.numeric.add(name)

        def holds(row: Mapping[str, Any]) -> bool:
            ours = number(row[name])
            return ours is not None and _ORDER[sign](ours, given)

        return holds

    def _membership(self, name: str) -> Test:
        wanted = not self.next.is_word("not")
        if not wanted:
            self._take()
        if not self.next.is_word("in"):
            self._refuse("in")
        self._take()
        if self.next.kind != "mark" or self.next.text not in "([":
            self._refuse("a list such as (sgd, adam)")
        closing = ")" if self._take().text == "(" else "]"
        tests = [_equals(self._value(name))]
        while self.next.kind == "mark" and self.next.text == ",":
            self._take()
            tests.append(_equals(self._value(name)))
        self._close(closing)
        return lambda row: any(test(row[name]) for test in tests) is wanted

    def _value(self, name: str) -> Token:
        if self.next.kind not in ("word", "quoted"):
            self._refuse("a value")
        value = self._take()
        self.equal.append((name, value))
        return value


def _equals(given: Token) -> Callable[[Any], bool]:
    """Numbers are equal by size, or as the table shows them; everything else as it is written."""
    size = None if given.kind == "quoted" else number(given.text)

    def same(value: Any) -> bool:
        if value is None:
            return given.is_word("null", "None", "-")
        if size is not None and not isinstance(value, bool) and number(value) == size:
            return True
        return value_text(value) == given.text or (isinstance(value, bool) and str(value) == given.text)

    return same
