"""The shape of the package: who may import whom, what is public, what starts torch."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import ganbench

PACKAGE = Path(ganbench.__file__).parent
# Every file may import what stands left of its room, and its own room. `metrics` and `datasets` are plugins: nothing of
# the engine imports them but by the registry.
ROOMS = [
    *(
        "errors",
        "format",
        "atomic",
        "cache",
        "contracts",
        "precision",
        "search_range",
        "samples",
        "nets",
        "optim",
    ),
    "registry",
    *("datasets", "metrics"),
    *("suite", "sample_counts", "training", "simulator_search", "store", "scoring", "analysis", "report"),
    *("execution", "conformance", "scaffold", "standings", "api", "pytest_plugin", "cli", "__main__"),
]
PLUGINS = {"datasets", "metrics"}
ORDER = {room: place for place, room in enumerate(ROOMS)}
FILES = sorted(PACKAGE.rglob("*.py"))


def name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


MODULES = {name(path).removesuffix(".__init__") for path in FILES}


@cache
def imports(path: Path, *, top: bool = False) -> set[str]:
    """Modules of ganbench, and others by their first name, that a file imports; `top`: at module level only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    nodes = tree.body if top else [node for node in ast.walk(tree) if id(node) not in guarded]
    folder, found = name(path).split(".")[:-1], set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] + (node.module.split(".") if node.module else [])
            plain = ".".join(base)
            below = {".".join([*base, alias.name]) for alias in node.names}
            found |= {f"ganbench.{module}" for module in ((below & MODULES) or {plain})}
    return found


def own(path: Path) -> set[str]:
    return {module.removeprefix("ganbench.") for module in imports(path) if module.startswith("ganbench")}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_imports_point_to_the_left(path):
    room = name(path).split(".")[0]
    used = {module.split(".")[0] for module in own(path)} - {"ganbench", "", "__init__"}
    if room == "analysis" and not any(
        module.startswith("ganbench.report") for module in imports(path, top=True)
    ):
        used.discard("report")  # a result puts itself into words when it is asked to
    if room == "templates":  # they are copied, never imported
        return
    assert {other for other in used if ORDER[other] > ORDER[room]} == set()
    if room not in PLUGINS and name(path) != "api":
        assert not used & PLUGINS
    if room in ("analysis", "report"):
        assert "torch" not in imports(path)


def test_every_room_says_what_comes_in_and_goes_out():
    for room in sorted(path.parent for path in PACKAGE.glob("*/__init__.py")):
        text = ast.get_docstring(ast.parse((room / "__init__.py").read_text("utf-8"))) or ""
        if room.name != "templates":
            assert "In: " in text, room
            assert "Out: " in text, room
            assert "Not its business: " in text, room


TORCH_FREE = (
    "errors",
    "format",
    "atomic",
    "contracts",
    "registry.",
    "suite.",
    "analysis.",
    "report.",
    "cli.",
    "store.results",
    "metrics.figures.",
)


@pytest.mark.parametrize("path", [f for f in FILES if name(f).startswith(TORCH_FREE)], ids=name)
def test_no_torch_at_module_level(path):
    assert "torch" not in imports(path, top=True)


def test_nothing_in_the_engine_names_a_baseline():
    baselines = {path.stem for path in (PACKAGE.parent / "baselines").rglob("*.py")}
    assert {"unrolling", "instance_noise", "vae"} <= baselines
    for path in FILES:
        strings = {
            n.value for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Constant)
        }
        assert not (strings & {"gan", "vae", "unrolling", "instance_noise"}), path


def test_baselines_import_only_public_names():
    for path in (PACKAGE.parent / "baselines").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ganbench"):
                assert node.module == "ganbench"
                assert {alias.name for alias in node.names} <= set(ganbench.__all__)


PUBLIC = """
Adam Batch BatchNorm BoostedDivergence Budget Data DatasetError Divergence Draw Dropout Feature Game
GanbenchError Labels Maxout Memory Modes Nets Player PluginError RMSprop Record RequestError Rescale
SGD SampleError Score Search Sequential Simulator Squash SuiteError Value __version__ adversaries
ais_log_likelihood authenticity bce_fake bce_real birthday_collisions c2st check class_coverage classifier
classifier_score compare conv_discriminator conv_generator data_copying data_log_density dataset
discriminator_features divergence extractor feature find_divergence find_feature frechet_distance
gradient_norm kde_log_likelihood kde_log_likelihood_folds kde_log_likelihood_scales kernel_distance
latent_arithmetic latent_walk linear_probe load_data load_model load_records load_standings memorisation method metric
mlp mode_coverage mode_kl near_duplicates nearest_neighbour_error orthogonal pairwise_diversity prdc
random_subset reconstruction_error run_suite
sliced_wasserstein trick tunable variational_divergence
"""


def test_public_names():
    assert sorted(ganbench.__all__) == sorted(PUBLIC.split())
    for public in ganbench.__all__:
        assert getattr(ganbench, public) is not None
    with pytest.raises(AttributeError, match="has no attribute 'gna'"):
        _ = ganbench.gna
