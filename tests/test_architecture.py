"""Imports run downward: core ← integrations ← data ← harness ← worlds ← speed ← commands."""

import ast
from pathlib import Path

import trainopt

ROOT = Path(trainopt.__file__).parent
CORE = [  # from the bottom up; what shares a line may import each other
    {"vectors", "schedules", "memory", "cache", "loading"},
    {"settings"},
    {"forms"},
    {"learning"},
    {"rules", "kernels"},
    {"optim"},
    {"conditions", "estimated", "secant"},
    {"__init__"},
]
LAYERS = [
    *CORE,
    {"integrations", "advice"},
    {"errors", "stopping"},
    {"data"},
    {"harness"},
    {"convex", "deep", "theory", "scientific"},
    {
        "advice.problems",
        "advice.study",
        "advice.outcomes",
        "advice.validation",
        "advice.spectra",
        "advice.spectra_picture",
    },
    {"speed", "advice.cli"},
    {"comparison", "reports"},
    {"commands", "bench"},
    {"cli", "__main__"},
]


def layer(module):
    """The layer of a module named as in `bench.data.file`; the package itself is the core's top."""
    parts = module.split(".")
    for name in (".".join(parts[:2]), parts[0] or "__init__"):
        for height, names in enumerate(LAYERS):
            if name in names:
                return height
    raise AssertionError(f"{module} has no layer: add it to LAYERS.")


def imports(path):
    """The modules of trainopt that a file imports, as `trainopt.x.y`."""
    package = ["trainopt", *path.relative_to(ROOT).parts[:-1]]
    for node in running(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            modules = [f"{base}.{alias.name}" for alias in node.names]
            names = [name if is_module(name) else base for name in modules]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "trainopt")


def running(node):
    """The nodes below this one, but for what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from running(child)


def is_module(name):
    path = ROOT.joinpath(*name.split(".")[1:])
    return path.is_dir() or path.with_suffix(".py").exists()


FILES = sorted(ROOT.rglob("*.py"))


def test_no_import_runs_upward():
    upward = set()
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        own = layer(name.removesuffix(".py").replace("/", ".").removesuffix(".__init__"))
        for module in imports(path):
            if layer(module.removeprefix("trainopt").lstrip(".")) > own:
                upward.add((name, module))
    assert upward == set()
