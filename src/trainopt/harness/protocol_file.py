"""A protocol file: a TOML file that is read whole, or refused with a sentence."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from trainopt.errors import InputError, did_you_mean
from trainopt.harness.optimizers import SCHEDULES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def digest_of(table: dict[str, Any], *more: Any, quick: bool) -> str:
    """SHA-256 in hex of all that decides a number.

    Args:
        table: of the protocol; its part [quick] counts only for the quick version.
        more: what else decides.
        quick: whether it is the quick version.
    """
    parts = {name: part for name, part in table.items() if quick or name != "quick"}
    described = json.dumps([parts, *more, quick], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()


@contextmanager
def protocol_table(path: Path | None, name: str) -> Iterator[dict[str, Any]]:
    """The file's table; a `Fault` within the block becomes a sentence that names the file.

    Args:
        path: the file; None reads the committed protocol, which is a part of the package.
        name: of the committed protocol, which has all keys.

    Raises:
        InputError: there is no such file, it isn't TOML, or there was a fault.
    """
    committed = resources.files("trainopt") / "protocols" / f"{name}.toml"
    source = committed if path is None else path
    try:
        table = tomllib.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"There is no protocol {source}: leave out --protocol for the committed one."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{source} isn't TOML ({error}): correct that line.") from error
    try:
        yield table
    except Fault as fault:
        raise InputError(f"{source} {fault}") from None


def extended(table: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """What a protocol says, and from the one that it `extends` what it doesn't.

    The parts [x_of], which are about single optimizers, have what both say.
    """
    joined = {name: base[name] | part for name, part in table.items() if name.endswith("_of")}
    return base | table | joined


class Fault(ValueError):
    """What is wrong in a protocol, as the end of a sentence that begins with the file."""


KINDS: dict[type, str] = {
    int: "a whole number of at least 0",
    float: "a number",
    str: 'a text, "…"',
    list: "a list, […]",
    dict: "a table of its own",
    bool: "true or false",
}


def check(
    table: dict[str, Any],
    where: str,
    required: dict[str, type],
    optional: dict[str, type] | None = None,
) -> None:
    """Hold a table to the keys it must and may have, and their kinds.

    Args:
        table: of the protocol.
        where: what the table is called in the file, such as "[tuning]".
        required: kinds of the keys that must be there, see `KINDS`.
        optional: kinds of those that may.

    Raises:
        Fault: a key isn't known, is missing, or has a value of another kind.
    """
    kinds = required | (optional or {})
    for key, value in table.items():
        if key not in kinds:
            hint = did_you_mean(key, kinds)
            raise Fault(
                f"has {key} in {where}, which isn't known: {hint}choose some of {', '.join(kinds)}."
            )
        if not _is(value, kinds[key]):
            raise Fault(f"has {key} = {value!r} in {where}: give {KINDS[kinds[key]]}.")
    for key in required:
        if key not in table:
            raise Fault(f"lacks {key} in {where}: add it, as in the committed protocol.")


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return _is_number(value)
    if kind is int:
        return _is_number(value) and isinstance(value, int) and value >= 0
    return isinstance(value, kind)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def at_least_one(table: dict[str, Any], where: str, *keys: str) -> None:
    """Raise `Fault` where one of these numbers is 0 or less."""
    for key in keys:
        if table[key] < 1:
            raise Fault(f"has {key} = {table[key]} in {where}: give at least 1.")


def check_named(table: dict[str, Any], where: str, known: Collection[str], kind: type) -> None:
    """Hold a table to keys out of `known`, such as [space] to the settings.

    Raises:
        Fault: a key isn't known, or has a value of another kind.
    """
    check(table, where, {}, dict.fromkeys(known, kind))


def check_known(kind: str, names: Iterable[str], known: Collection[str]) -> None:
    """Hold names in a protocol to those that there are.

    Args:
        kind: what they name, in words.
        names: as the protocol has them.
        known: what there is.

    Raises:
        Fault: one isn't known.
    """
    for name in names:
        if name not in known:
            raise Fault(
                f"has the {kind} {name}, which isn't known: {did_you_mean(name, known)}choose one "
                f"of {', '.join(known)}."
            )


def settings_of(
    table: dict[str, Any], part: str, optimizer: str, settings: Iterable[str]
) -> dict[str, Any]:
    """What [part] and, before it, [part_of.optimizer] say of an optimizer's settings.

    Raises:
        Fault: one is missing.
    """
    said = table[part] | table[f"{part}_of"].get(optimizer, {})
    for name in settings:
        if name not in said:
            raise Fault(f"lacks {name} in [{part}], which {optimizer} needs: add it.")
    return {name: said[name] for name in settings}


def distribution(name: str, values: Any) -> BaseDistribution:
    """How a setting is searched: between two numbers, by their logarithm; else among the values.

    Args:
        name: of the setting.
        values: what the protocol says: a pair of numbers is a range, another list is a choice.

    Raises:
        Fault: it is neither.
    """
    if not isinstance(values, list) or not values:
        raise Fault(f"has {name} = {values!r}: give a range [low, high], or a list of choices.")
    if name.endswith("_schedule"):
        for value in values:
            if value not in SCHEDULES:
                hint = did_you_mean(str(value), SCHEDULES)
                raise Fault(
                    f"has {name} = {values}, and there is no schedule {value}: {hint}choose some "
                    f"of {', '.join(SCHEDULES)}."
                )
        return CategoricalDistribution(values)
    numbers = [value for value in values if _is_number(value)]
    if len(numbers) not in (0, len(values)):
        raise Fault(f"has {name} = {values}: give numbers or texts, not both.")
    if len(numbers) != 2:
        return CategoricalDistribution(values)
    low, high = map(float, values)
    if not 0 < low < high:
        raise Fault(f"has the range {name} = {values}: give two numbers, 0 < low < high.")
    return FloatDistribution(low, high, log=True)
