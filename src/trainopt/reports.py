"""The report of any folder of results: its `run.json` tells which command made it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from trainopt.errors import InputError

# The first of these that run.json has tells what made it -> where its report is drawn.
KINDS = {
    "identity": "trainopt.convex.comparison_report",
    "budgets": "trainopt.deep.report",
    "convex_protocol": "trainopt.convex.secant_tables",
    "functions": "trainopt.theory.run",
    "sizes": "trainopt.theory.memory",
    "limits_gb_per_s": "trainopt.speed.report",
    "problems": "trainopt.convex.report",
}


# What "study" is in run.json -> title of the page, and what writes its summary.md.
SUMMARIES = {
    "sensitivity": ("How much α, β and γ matter", "convex.sensitivity_tables:write_sensitivity"),
    "sensitivity-deep": (
        "How much α, β and γ matter to deep tasks",
        "deep.sensitivity_tables:write_deep_sensitivity",
    ),
    "normalised": ("The normalised rate", "convex.normalised_tables:write_normalised"),
    "init": ("Where A and b start", "convex.initial:write_initial"),
    "init-deep": ("Where A and b start in deep tasks", "deep.initial:write_deep_initial"),
    "nonconvex": ("The non-convex rate", "theory.nonconvex:write_nonconvex"),
    "scientific": ("Physics-informed networks", "scientific.tables:write_again"),
    "advice": ("Is the advice right?", "advice.study:write_again"),
    "spectrum": ("Does the learned A find the Hessian?", "advice.spectra:write_again"),
}


def report(folder: Path, protocol: Path | None = None) -> Any:
    """Draw the report of a folder again, from what was run.

    Args:
        folder: what any command with `--out` wrote.
        protocol: the protocol file of a study; the committed one by default.

    Raises:
        InputError: the folder holds no results, or they can't be read.
    """
    from trainopt.harness.folder import read_manifest
    from trainopt.harness.provenance import commands

    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}: name one that `trainopt` made.")
    manifest = read_manifest(folder)
    if manifest is None:
        raise InputError(
            f"{folder} holds no results: it has no run.json that can be read; name another folder."
        )
    made = commands(manifest).splitlines()
    again = f"run `{made[-1]}` again" if made and made[-1] else "name another folder"
    if manifest.get("study") in SUMMARIES:
        return summarise(folder, manifest["study"])
    for key, module in KINDS.items():
        if key in manifest:
            draw: Callable[[Path, Path | None], Any] = import_module(module).draw_again
            try:
                return draw(folder, protocol)
            except (KeyError, TypeError, ValueError) as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(
                    f"{folder} is damaged or incomplete ({error}): {again}."
                ) from error
    raise InputError(f"{folder} holds no results that are finished: {again}.")


def summarise(folder: Path, study: str) -> None:
    """Write the tables, summary.md and report.html of a study, and print what they say.

    Args:
        folder: its results.
        study: a key of `SUMMARIES`.
    """
    from trainopt.harness.summary import draw_summary

    title, writer = SUMMARIES[study]
    module, _, function = writer.partition(":")
    getattr(import_module(f"trainopt.{module}"), function)(folder)
    draw_summary(folder, title)
