"""The normalised rate under the protocol of the convex study, to be judged beside its runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from trainopt.convex.conditioning import check_optimum
from trainopt.convex.protocol import Protocol, work
from trainopt.convex.tables import Results
from trainopt.convex.world import Convex
from trainopt.errors import InputError
from trainopt.harness.run import run

PROTOCOL = Path(str(resources.files("trainopt") / "protocols" / "normalised.toml"))


@dataclass(frozen=True)
class Beside(Convex):
    """The convex world for optimizers whose runs are compared with those of another folder.

    Attributes:
        known: what that folder has found of each case.
    """

    known: dict[str, dict[str, Any]]

    command = "study normalised"

    @property
    def identity(self) -> dict[str, Any]:
        """The study, and the digest that both folders have."""
        return {"study": "normalised", **super().identity}

    def facts(self, problem: str) -> dict[str, Any]:
        """Those of the other folder, without w*.

        Raises:
            InputError: the data aren't there, or are others.
        """
        facts = self.known[problem]
        check_optimum(self._case(problem).problem(), facts)
        return {name: value for name, value in facts.items() if name != "weights"}

    def extras(self, manifest: dict[str, Any], out: Path, show: bool) -> None:
        """Nothing is timed: the comparison is by passes."""


def run_normalised(convex: Results, protocol: Protocol, out: Path, show: bool) -> None:
    """Run what is missing: the smallest cases first, and Full-TO, the dearest, after the others.

    So a part of the study says most. One process.

    Args:
        convex: the study whose cases are taken.
        protocol: what is run on them: that of the convex study for other optimizers.
        out: folder for run.json and the tables runs and trials (Parquet).
        show: draw a progress bar.

    Raises:
        InputError: the protocol differs in more than that, or `out` holds something else.
    """
    if protocol.digest != convex.protocol.digest:
        raise InputError(
            "The runs can't be compared with those of --convex, which are of another protocol: "
            "give its folder."
        )
    known = convex.manifest["problems"]

    cases = [case for case in protocol.cases if case.name in known]
    light = {name: space for name, space in protocol.spaces.items() if not name.startswith("full")}
    for spaces in (light, protocol.spaces):
        for case in sorted(cases, key=lambda case: work(case, known[case.name])):
            part = replace(protocol, cases=(case,), spaces=spaces)
            run(Beside(part, known), out, None, workers=0, show=show)
