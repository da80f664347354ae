"""What a run folder holds already: finished work that another plan would replace is refused, and what only adds to it goes on.

Results depend on the plan, on the recordings and on mmcl itself; all three are compared with what lies in the folder before
anything is written over. More epochs may go on from the last checkpoint, if that is asked for.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..api.errors import StageError
from ..data.prepared import Kept, kept_by
from ..engine.optim import rate
from ..engine.resume import drop_checkpoint, drop_damaged, has_checkpoint
from ..recipe.plan import Plan, changed_code
from ..recipe.slots import later_keys
from ..runs import JsonObject, RunFolder, distrusting, read_json, remove_tree
from ..screen import say
from .units import Unit, embed_key, pretrain_key, probe_key, supervise_key, units_of, worth_key

WORK = {
    "pretrain": ("finished.json", "resume/state.json"),
    "embed": ("finished.json",),
    "probe": ("finished.json",),
    "supervise": ("finished.json", "models/*.json", "resume/state.json"),
    "worth": ("finished.json",),
}
"""Stage → files of which one shows that work lies there, finished or kept by a checkpoint."""
NAMED = {("probe", "heads"), ("probe", "inputs"), ("supervise", "heads"), ("supervise", "inputs")}
"""Sections to which a name can be added: what there is stays as it is."""
LISTS = {("seed",), ("probe", "seeds"), ("probe", "tasks"), ("supervise", "tasks"), ("report", "against"), ("protocol", "only")}
"""Lists to which an entry can be added."""
SILENT = {"weights", "standardise", "mask_bands", "speed", "permute", "mirror", "mask_joints"}
"""Keys of plan.json that stand there only where they say something, beside those that sections name as LATER and options of plug-ins."""
UNREAD = {("name",), ("about",), ("overrides",), ("track",), ("sweep",), ("departs",), ("format",), ("dataset", "root")}
UNREAD |= {(name, "checkpoint_minutes") for name in ("pretrain", "supervise")}
"""Keys on which no result depends; where the recordings lie is compared file by file."""
MORE = {("pretrain", "epochs"), ("pretrain", "patience")}
"""Keys that may change where pretraining goes on."""

FIRST = ""
"""Stands in a change for which name of a section comes first: a report is about that."""

Key = tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """One key of the plan that says something else than the plan of the work that is there."""

    key: Key
    old: Any
    new: Any
    adds: bool  # whether all that there is stays, and more comes
    words: str = ""  # what to say in place of the key and its values

    def __str__(self) -> str:
        if self.words:
            return self.words
        first = self.key[:-1] in NAMED and self.key[-1] == FIRST
        name = f"the first of {'.'.join(self.key[:-1])}" if first else ".".join(self.key)
        if self.old is None:
            return f"{name} is {_short(self.new)} now"
        return f"{name} was {_short(self.old)}" + (
            f" and is {_short(self.new)}" if self.new is not None else " and is left out now"
        )


@dataclass(frozen=True)
class Earlier:
    """What a run folder holds before a run: the plan that made it, and the stages of which there is work."""

    plan: JsonObject = field(default_factory=dict)  # plan.json; {}: there is no work, or nobody knows of which plan
    stages: tuple[str, ...] = ()
    lost: str = (
        ""  # why nobody knows of which plan or of which recordings the work is: plan.json or folds.json is damaged or gone
    )

    @property
    def continued(self) -> list[JsonObject]:
        """The epochs and patience of each plan that pretraining has gone on from, the first one first."""
        return list(self.plan.get("continued", ()))


@distrusting
def earlier(run: RunFolder) -> Earlier:
    """What lies in a run folder."""
    stages = [
        stage
        for stage, marks in WORK.items()
        if any(next(run.root.glob(f"fold-*/seed-*/{stage}/{mark}"), None) is not None for mark in marks)
    ]
    if not stages:
        return Earlier()
    plan, lost = {}, ""
    try:
        kept_by(run)
    except StageError as error:
        lost = str(error).split("; run")[0]
    try:
        plan = read_json(run.root / "plan.json")
    except StageError as error:
        lost = str(error).split("; run")[0]
    if lost:
        say(f"{lost}; it is made again, if finished work is of this very recipe and of these recordings")
    return Earlier(plan, tuple(stages), lost)


def check_plan(run: RunFolder, before: Earlier, plan: Plan, more: bool) -> list[JsonObject]:
    """Whether a plan leaves all work as it is, adds to it, or goes on with its pretraining; what it goes on from, for plan.json.

    more  whether pretraining is to go on with more epochs (--continue)

    Raises StageError, before anything is written, where work would be replaced, or where there is nothing to go on from.
    """
    if not before.stages:
        if more:
            raise StageError(f"{run.root}: holds no pretraining to go on with; leave --continue out")
        return []
    if not before.plan:
        if more:
            raise StageError(f"{before.lost}; leave --continue out and run the recipe as it was, which makes it again")
        return []
    old, new = before.plan["plan"], json.loads(json.dumps(plan.to_json()))
    changes = list(changes_of(old, new))
    if before.plan.get("mmcl") != __version__:
        changes.append(Change(("mmcl",), before.plan.get("mmcl"), __version__, adds=False))
    elif "code" in new["dataset"] and "code" not in old["dataset"]:
        words = "it was made before mmcl kept what the code of plug-ins is, so that whether it has changed is not known"
        changes.append(Change(("code",), None, new["dataset"]["code"], adds=False, words=words))
    replaced = [
        (one, hit) for one in changes if not one.adds and (hit := [s for s in touched(one, old, new) if s in before.stages])
    ]
    going_on = [one for one, _ in replaced if one.key in MORE]
    if more:
        replaced = [(one, hit) for one, hit in replaced if one.key not in MORE]
    if replaced:
        hit = [stage for stage in before.stages if any(stage in stages for _, stages in replaced)]
        only_more = (
            not more and all(one.key in MORE for one, _ in replaced) and new["pretrain"]["epochs"] > old["pretrain"]["epochs"]
        )
        raise StageError(
            f"{run.root}: holds finished work that this would replace ({', '.join(hit)}): {listed([one for one, _ in replaced])}; "
            f"give --out for a folder of its own, or --overwrite to replace it"
            + (", or --continue to go on from the last epoch" if only_more else "")
        )
    if not more:
        return before.continued
    if not going_on:
        return before.continued  # the same command again
    _check_more(run, old["pretrain"], new["pretrain"])
    return [*before.continued, {name: old["pretrain"][name] for name in ("epochs", "patience")}]


def check_beside(run: RunFolder, plan: Plan) -> None:
    """Raise StageError if the processes that are at work in the folder, on other folds and seeds, have another plan."""
    if (run.root / "plan.json").is_file():
        changes = list(changes_of(read_json(run.root / "plan.json")["plan"], json.loads(json.dumps(plan.to_json()))))
        if changes:
            raise StageError(
                f"{run.root}: another mmcl process is at work on this run with another plan ({listed(changes)}); give another --out, or wait "
                "for it and give --overwrite"
            )


def _check_more(run: RunFolder, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise StageError where pretraining cannot go on: fewer epochs, nothing kept, or a patience that is over."""
    if new["epochs"] <= old["epochs"]:
        raise StageError(
            f"{run.root}: was pretrained for {old['epochs']} epochs and --continue goes on with more; set pretrain.epochs above that"
        )
    for fold, seed, folder in run.units("pretrain"):
        facts, where = read_json(folder / "finished.json"), f"{run.root}: fold {fold}, seed {seed}"
        if facts.get("stopped") == "patience" and new["patience"] == old["patience"]:
            raise StageError(
                f"{where} was stopped by patience after epoch {facts['epochs']}, and more epochs change nothing; "
                "give --set pretrain.patience= or a larger one too"
            )
        if not has_checkpoint(folder / "last"):
            raise StageError(
                f"{where} has no checkpoint of its last epoch (an older mmcl kept none, or pretrain/last was deleted); "
                "--overwrite trains from the beginning"
            )


def going_on(plan: Plan, continued: Sequence[Mapping[str, Any]]) -> list[str]:
    """What it means that pretraining goes on, a sentence each: for people, plan.json and the report."""
    section = plan.recipe.pretrain
    sentences = []
    for k, one in enumerate(continued):
        then = int(one["epochs"])
        upto = int(continued[k + 1]["epochs"]) if k + 1 < len(continued) else section.epochs
        sentences.append(f"pretraining went on from the end of {then} epochs to {upto}")
        ended, begins = (
            rate(section.schedule, section.optimizer.lr, epochs, at) for epochs, at in ((then, then - 1e-3), (upto, then))
        )
        if section.schedule.use == "cosine":
            sentences[-1] += (
                f"; the schedule cosine, which had ended at a rate of {ended:.2g}, was stretched over {upto} epochs and went on at "
                f"{begins:.2g}, so that the weights are not those of {upto} epochs in one go"
            )
        else:
            sentences[-1] += (
                f"; the schedule {section.schedule.use} does not depend on the number of epochs: the weights are those of {upto} epochs in one go"
            )
    return sentences


def changes_of(old: Mapping[str, Any], new: Mapping[str, Any], inside: Key = ()) -> Iterator[Change]:
    """Where two plans differ. What an older mmcl did not write into plan.json is taken to be as it is now."""
    silent = SILENT | later_keys()
    for name in dict.fromkeys((*old, *new)):
        key = (*inside, name)
        if key in UNREAD:
            continue
        if inside in NAMED or inside in (("modalities",), ("scores",)) or "params" in inside or name in silent:
            before, now = old.get(name), new.get(name)
        elif name not in old or name not in new:
            continue
        else:
            before, now = old[name], new[name]
        if before == now:
            continue
        if name == "code":
            sentences = (
                words for place, _, words in changed_code(old, new, inside) if place == key
            )  # none where its version says it
            yield from (Change(key, before, now, adds=False, words=words) for words in sentences)
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            if key in NAMED and next(iter(before), None) != next(iter(now), None):
                yield Change((*key, FIRST), next(iter(before), None), next(iter(now), None), adds=False)
            yield from changes_of(before, now, key)
        else:
            yield Change(key, before, now, _adds(key, before, now))


def _adds(key: Key, old: Any, new: Any) -> bool:
    """Whether all that an old value gave is still given."""
    if key[:-1] in NAMED:
        return old is None
    if key in (("supervise",), ("worth",)):
        return old is None
    if key == ("protocol", "only") and new is None:
        return True
    if key in LISTS or (key[0] == "worth" and isinstance(new, list)):
        lists = isinstance(old, list) and isinstance(new, list)
        first = key[0] == "worth" or key == ("report", "against") or not old or old[:1] == new[:1]
        return lists and set(old) <= set(new) and first
    return key[0] == "worth" and (old, new) == (False, True)


def touched(change: Change, old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """The stages whose results depend on a key."""
    fine_tuned = any(plan.get("supervise") and _reads_pretraining(plan["supervise"]) for plan in (old, new))
    match change.key[0]:
        case "pretrain":
            return ("pretrain", "embed", "probe", "worth", *(("supervise",) if fine_tuned else ()))
        case "probe":
            return ("probe", "worth")
        case "report":
            return ("embed", "probe")
        case "supervise" | "worth" as stage:
            return (stage,)
    return tuple(WORK)


def _reads_pretraining(section: Mapping[str, Any]) -> bool:
    return bool(section["start"] == "pretrained" or section.get("contrast"))


def check_recordings(run: RunFolder, before: Earlier, new: Kept) -> None:
    """Raise StageError if the recordings, their streams or their sides are others than those that finished work was made of.

    new  what later stages are going to start from
    """
    try:
        old = kept_by(run)
    except StageError:
        return  # `check_keys` looks at the work itself
    if not before.stages:
        return
    wrong = ""
    sides = {fold.number: fold for fold in new.folds}
    if old.samples != new.samples:
        was, now = ({one.id: one for one in each.samples} for each in (old, new))
        gone, fresh = [id for id in was if id not in now], [id for id in now if id not in was]
        other = [id for id in was if id in now and was[id] != now[id]]
        first, what = next(
            ((ids[0], what) for ids, what in ((gone, "gone"), (fresh, "new"), (other, "changed")) if ids), ("", "")
        )
        if what:  # else their order is another one, or what nobody asks for
            wrong = f"{len(gone)} recordings are gone, {len(fresh)} new, {len(other)} changed, the first {first} ({what})"
    if not wrong:
        streams = [name for name, one in old.stores.items() if new.stores.get(name, {}).get("key") != one["key"]]
        others = [fold.number for fold in old.folds if fold.number in sides and sides[fold.number] != fold]
        if streams:
            wrong = f"the files of {', '.join(streams)}, or how they are read, have changed since"
        elif others:
            wrong = f"fold {others[0]} has other recordings on its sides"
    if wrong:
        raise StageError(
            f"{run.root}: holds finished work ({', '.join(before.stages)}) of other recordings: {wrong}; give --out for a folder of its "
            "own, or --overwrite to replace it"
        )


def check_keys(plan: Plan, run: RunFolder, before: Earlier) -> None:
    """Where plan.json or folds.json is lost: raise StageError if finished work is of another plan or of other recordings.

    The fingerprints of stages hold everything that their results depend on; what differs cannot be said.
    """
    if not before.lost:
        return
    units = units_of(plan, run)
    for unit in units:
        for stage, key in _keys(plan, unit, first=unit is units[0]).items():
            known = _known_key(unit.folder(stage))
            if known is not None and known != key:
                raise StageError(
                    f"{before.lost}, and finished work ({stage}, {unit}) is of another plan or of other recordings; give --out for a folder "
                    "of its own, or --overwrite to replace it"
                )


def _keys(plan: Plan, unit: Unit, first: bool) -> dict[str, str]:
    """The fingerprint of each stage's work for one fold and seed."""
    where = unit.prepared, unit.fold, unit.seed
    embedded = embed_key(plan, *where)
    keys = {"pretrain": pretrain_key(plan, *where), "embed": embedded, "probe": probe_key(plan, embedded)}
    if plan.supervised is not None:
        keys["supervise"] = supervise_key(plan, *where)
    if plan.recipe.worth is not None:
        keys["worth"] = worth_key(plan, *where, first)
    return keys


def _known_key(folder: Path) -> str | None:
    """The fingerprint of the work in a stage's folder, finished or kept by a checkpoint; None where there is none that can be read."""
    for mark in ("finished.json", "resume/state.json"):
        try:
            return str(read_json(folder / mark)["key"]).split(" ")[0]
        except StageError:
            continue
    return None


def remove_stale(run: RunFolder) -> None:
    """Remove the folders of folds and seeds that the plan no longer names, and say so."""
    for folder in run.stale():
        remove_tree(folder)
        say(f"{run.root}: {folder.relative_to(run.root)} was removed; the plan no longer names it")


def remove_damaged(units: Iterable[Unit]) -> None:
    """Remove the checkpoints of trainings that cannot be gone on with, as none of theirs is whole and fits the networks, and say so."""
    from . import pretrain, supervise

    checks = {"pretrain": pretrain.check_checkpoint, "supervise": supervise.check_checkpoint}
    for unit in units:
        for stage, check in checks.items():
            folder = unit.folder(stage) / "resume"
            if drop_damaged(folder):
                say(f"{stage} {unit}: no checkpoint in {folder} is whole; they were removed, and this training begins anew")
            elif has_checkpoint(folder) and (stage == "pretrain" or unit.plan.supervised is not None):
                try:
                    check(unit)
                except StageError as error:
                    drop_checkpoint(folder)
                    say(f"{stage} {unit}: {str(error).split('; give')[0]}; they were removed, and this training begins anew")


def listed(changes: Sequence[Change]) -> str:
    """The first few changes, in words."""
    few = list(itertools.islice(changes, 4))
    return "; ".join(map(str, few)) + (f"; and {len(changes) - len(few)} more" if len(changes) > len(few) else "")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
