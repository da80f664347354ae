"""What the kit is to see, sentence by sentence, and the planted faults that prove each: `python tests/test_testing_promises.py` prints the count.

A row names tests that plant a fault and are red where the kit passes it. One that is parametrised plants one fault a case.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent

PROMISES = {
    "the ignore-mask ignored, also with reduction: whole": [
        "ignores no mask",
        "ignores no mask, whole",
        "mean cosine of all, whole",
    ],
    "a loss that is lower when aligned is worse": ["the wrong way round", "the wrong way round, whole"],
    "state between calls of one object": [
        "remembers a centre",
        "counts its calls",
        "remembers the last batch",
        "remembers",
        "counts",
    ],
    "state between reads, all recordings, in another order": [
        "hands out one array",
        "smooths with the last one",
        "normalises by the first",
    ],
    "another process with another hash seed": [
        "list(set(names))",
        "sorted(names, key=hash)",
        "hash(id) % 1000",
        "tuple({'x', 'y', 'z', 'u', 'v', 'w'})",
    ],
    "what the first recording leaves in a module": [
        "test_what_the_first_recording_leaves_in_a_module_is_seen_by_another_process"
    ],
    "fitted or running statistics in extract": ["fits its mean", "running mean"],
    "a group in two splits": ["a group in two splits"],
    "labels equal to NaN": ["labels that are NaN", "scores that are NaN", "yes or no that is NaN"],
    "streams longer than 1,000 steps": [
        "places for 512 steps",
        "fails beyond 1,000 steps",
        "a long one breaks",
        "a long one is refused",
    ],
    "streams of one step, constant, empty": [
        "one step breaks",
        "a constant one is refused",
        "scales by its own spread",
        "zeros give no number",
        "an empty one is taken",
        "an empty one breaks",
        "divides by its own spread",
    ],
    "every option at its bounds": [
        "breaks at a bound",
        "breaks at the other bound",
        "breaks inside an open bound",
        "breaks at a small temperature",
        "a bound gives infinity",
    ],
    "every choice of an enum": ["breaks with a choice", "breaks with a switch", "breaks with a form"],
    "gradients that are zero everywhere": ["idle in disguise", "zero gradient", "constant"],
    "constant outputs": ["constant vector", "constant"],
    "tensors made on the wrong device": [
        "makes its places on the CPU",
        "keeps a constant that is no buffer",
        "asks NumPy",
        "pads with CPU zeros",
        "eye on the CPU",
    ],
    "global seeds": ["seeds when built", "seeds torch", "seeds numpy", "seeds random"],
    "dtype flags and other switches": [
        "default dtype",
        "switches gradients off",
        "benchmarks cudnn",
        "allows tf32",
        "takes all threads",
        "detects anomalies",
        "is deterministic for all",
        "does without cudnn",
        "flushes denormal numbers",
        "sets seterr",
    ],
    "environment": ["sets a variable", "takes a variable away", "goes elsewhere"],
    "warnings filters": ["hides warnings", "filters warnings", "resets warnings", "shows warnings otherwise"],
    "what else is everybody's": [
        "leaves a thread",
        "stops the collector",
        "takes Ctrl-C",
        "hurries sockets",
        "raises the limit of recursion",
    ],
    "import that prints": ["print('loading')"],
    "import that sleeps": ["import time; time.sleep(0.01)"],
    "import that opens threads or connections": ["name='mine').start()", "socket.create_connection"],
    "import of torch and the like, named with its seconds": [
        "import scipy",
        'hook": "import sklearn',
        "test_heavy_import_before_build_is_caught_at_its_moment",
    ],
    "import that changes the process": [
        "A_PLANT",
        "os.chdir('/')",
        "random.seed(0)",
        "sys.path.append",
        "warnings.simplefilter('ignore')",
    ],
    "a default outside its bound": ["Field(-1, ge=0"],
    "a required option, said and not raised": ["test_a_good_package_passes_and_a_required_option_is_told_not_raised"],
    "rerun in another folder gives equal bytes": [
        "absolute paths among its facts",
        "absolute paths as ids",
        "sorts by the folder's name",
        "reads its folder's name",
    ],
    "nothing is written beside the data": ["writes beside the data"],
    "the author's real data": ["test_real_recordings_are_checked_and_left_alone"],
    "unknown labels are no positives": ["unknown labels belong together"],
    "the same loss, drawn anew": ["draws"],
    "half precision": ["logarithm of bf16", "test_half_precision_that_goes_astray_is_caught"],
}
"""What is promised → words of the plants, as they stand in these files."""

MISSED = {
    "upper bounds of whole numbers above 64": "they take seconds, and memory, each; general.LARGEST",
    "a fault that shows beyond 1,100 steps alone, or in the 25th real recording": "longer streams and more recordings cost time; --recordings N reads more of the author's",
    "what a plug-in changes of a library's own module, as by replacing a function of numpy": "a library may be changed in any of thousands of places; those that are known to be changed are looked at",
    "a process that goes on behind a fork": "threads are listed by Python, processes of others are not told from those that the kit starts",
    "a loss or a network that is wrong by its paper": "the contract knows no paper; brute_force= of check_loss compares with the author's own formula",
}
"""What the kit does not see, and why."""


def plants() -> dict[str, int]:
    """Tests that plant faults → how many each plants, as its parametrisation counts them in the file."""
    counted = {}
    for path in sorted(HERE.glob("test_testing*.py")):
        if path.name == Path(__file__).name:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        tables = {
            node.targets[0].id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        for node in tree.body:
            if (
                isinstance(node, ast.FunctionDef)
                and re.search(r"_caught|is_named$|seen_by", node.name)
                and node.name.startswith("test_")
            ):
                cases = [
                    _cases(one.args[1], tables)
                    for one in node.decorator_list
                    if isinstance(one, ast.Call) and getattr(one.func, "attr", "") == "parametrize"
                ]
                counted[f"{path.name}::{node.name}"] = cases[0] if cases else 1
    return counted


def _cases(value: ast.expr, tables: dict[str, ast.expr]) -> int:
    """How many cases a parametrisation has: of a list, a dict's items, or a table of the file by name."""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        return _cases(value.func.value, tables)
    if isinstance(value, ast.Name):
        return _cases(tables[value.id], tables)
    return len(value.keys if isinstance(value, ast.Dict) else value.elts)  # type: ignore[attr-defined]  # nothing else is written there


@pytest.mark.parametrize("promise", PROMISES)
def test_every_promise_of_the_kit_has_a_plant(promise):
    words = "\n".join(
        path.read_text(encoding="utf-8") for path in HERE.glob("test_testing*.py") if path.name != Path(__file__).name
    )
    assert PROMISES[promise]
    assert [one for one in PROMISES[promise] if one not in words] == []


def test_more_than_a_hundred_and_twenty_faults_are_planted():
    assert sum(plants().values()) >= 120
    assert min(plants().values()) >= 1


def test_what_the_kit_misses_is_written_down_with_its_reason():
    page = (HERE.parent / "docs" / "publish-a-plugin.md").read_text(encoding="utf-8")
    assert all(why for why in MISSED.values())
    assert "What they do not see" in page


if __name__ == "__main__":
    for name, count in plants().items():
        print(f"{count:4} {name}")
    print(f"{sum(plants().values()):4} planted faults")
