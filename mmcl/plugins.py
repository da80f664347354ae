"""Finds plug-ins by their entry points, loads each alone, and keeps what they offer by name, with where it came from.

An installed package is an available package: nothing is scanned, nothing depends on the order of imports. A plug-in that
fails to load is kept with its reason and stops nothing. A bare name means the built-in one; where only strangers offer a
name, a bare name means theirs as long as it is one package's; otherwise it is `package:name`.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import re
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pluggy

from . import __version__
from .api import DEPRECATED, hooks
from .api.backbone import BackboneSpec
from .api.dataset import DatasetSpec
from .api.deprecation import Deprecated, Deprecation, deprecated_fields
from .api.errors import PluginError, UnknownNameError
from .api.group import GroupLossSpec
from .api.head import HeadSpec
from .api.kinds import Kind
from .api.loss import LossSpec, PositivesSpec
from .api.modality import ModalitySpec
from .api.params import Params
from .api.preset import PresetSpec
from .api.pretext import PretextSpec
from .api.published import PublishedSpec
from .api.sampler import SamplerSpec
from .api.scorer import ScorerSpec
from .api.version import VERSION
from .installed import code_of, damage, entry_points, names_used, roots_of, unmet

OURS = "mmcl"
"""The distribution whose offers are the built-in ones."""

REGISTRIES: Mapping[str, tuple[str, type[Any]]] = {
    "kind": ("register_kinds", Kind),
    "modality": ("register_modalities", ModalitySpec),
    "backbone": ("register_backbones", BackboneSpec),
    "loss": ("register_losses", LossSpec),
    "group-loss": ("register_group_losses", GroupLossSpec),
    "positives": ("register_positives", PositivesSpec),
    "sampler": ("register_samplers", SamplerSpec),
    "dataset": ("register_datasets", DatasetSpec),
    "head": ("register_heads", HeadSpec),
    "pretext": ("register_pretexts", PretextSpec),
    "scorer": ("register_scorers", ScorerSpec),
    "preset": ("register_presets", PresetSpec),
    "published": ("register_published", PublishedSpec),
}
"""What can be registered: word used in messages and commands → (hook, class of its spec)."""

DEPRECATED_NAMES: Mapping[str, Mapping[str, tuple[str, Deprecated]]] = {"mmcl.api": DEPRECATED}
"""Public modules that have names which will go, each with its table of them."""

PATIENCE = 10.0
"""Seconds after which a stranger that is still being imported is named."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""What is told to be installed: nothing else reaches a shell by such advice."""
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*")


@dataclass(frozen=True)
class Offer:
    """One thing that a plug-in offers."""

    what: str  # a key of REGISTRIES
    spec: Any
    package: str  # distribution that offers it
    version: str
    plugin: str  # name of its entry point
    module: str = ""  # of its entry point; "" for what no entry point offers

    @property
    def code(self) -> str:
        """What the plug-in's files hold, as 16 hexadecimal digits; "" if it lies in no file."""
        return code_of(self.module, None if self.package == OURS else self.package) if self.module else ""

    @property
    def name(self) -> str:
        """The name it is offered under, without the package."""
        return str(self.spec.name)


@dataclass(frozen=True)
class Loaded:
    """One entry point of the group `mmcl`: what it offers, or why it failed."""

    plugin: str
    package: str
    version: str
    module: str
    offers: tuple[Offer, ...] = ()
    failure: str | None = None
    seconds: float = 0.0  # that its import and its hooks took
    outdated: tuple[tuple[str, Deprecated], ...] = ()  # hooks and fields of specs that it uses and that will go

    @functools.cached_property
    def deprecations(self) -> tuple[str, ...]:
        """What it uses that will go, a sentence each: plug-in, package, name and place, since when, with what it goes, what to do. Reads its files."""
        names = names_used(self.module.partition(":")[0], DEPRECATED_NAMES)
        known = {f"{module}.{name}": one for module, table in DEPRECATED_NAMES.items() for name, (_, one) in table.items()}
        used = [*self.outdated, *((f"{name} ({place})", known[name]) for name, place in names.items())]
        return tuple(
            f"plug-in '{self.plugin}' (package {self.package} {self.version}): {one.sentence(name)}" for name, one in used
        )


class Plugins:
    """Everything that the installed plug-ins offer."""

    def __init__(self, loaded: Iterable[Loaded]) -> None:
        self.loaded = tuple(loaded)
        self._offers: dict[str, dict[str, list[Offer]]] = {what: {} for what in REGISTRIES}
        for one in self.loaded:
            for offer in one.offers:
                self._offers[offer.what].setdefault(offer.name, []).append(offer)

    @property
    def failed(self) -> tuple[Loaded, ...]:
        """Plug-ins that could not be loaded, each with its reason."""
        return tuple(one for one in self.loaded if one.failure)

    def all(self, what: str) -> list[tuple[str, Offer]]:
        """Every offer of one sort with the name by which a recipe reaches it, sorted by that name."""
        return sorted((self.reach(offer), offer) for offers in self._offers[what].values() for offer in offers)

    def reach(self, offer: Offer) -> str:
        """The shortest name that means this offer: bare, or `package:name` where a bare name means another one."""
        rivals = self._offers[offer.what][offer.name]
        if offer.package == OURS or len(rivals) == 1:
            return offer.name
        return f"{offer.package}:{offer.name}"

    def get(self, what: str, name: str) -> Offer:
        """The offer that a recipe's `use: name` means.

        Raises UnknownNameError if nobody offers it and PluginError if the bare name could mean several strangers' offers.
        """
        package, _, bare = name.rpartition(":")
        rivals = self._offers[what].get(bare, [])
        if package:
            rivals = [o for o in rivals if _same(o.package, package)]
        if len(rivals) > 1:
            rivals = [o for o in rivals if o.package == OURS] or rivals
        if len(rivals) == 1:
            return rivals[0]
        if rivals:
            names = " or ".join(f"'{o.package}:{bare}'" for o in rivals)
            raise PluginError(f"{what} '{bare}' is offered by {len(rivals)} packages: write {names}")
        failed, advice = [one.plugin for one in self.failed], ""
        if package and not any(_same(one.package, package) for one in self.loaded) and _PACKAGE.fullmatch(package):
            advice = f" The package {package} is not installed here: pip install {package}."
        elif not package:
            advice = " If another package offers it, install that one here; 'mmcl plugins' lists those that are."
        raise UnknownNameError(what, name, (n for n, _ in self.all(what)), failed, advice)

    def deprecations(self, packages: Iterable[str]) -> list[str]:
        """One sentence for each plug-in of strangers' packages that uses something which will go."""
        strangers = set(packages) - {OURS}
        told = [one.deprecations for one in self.loaded if one.package in strangers and not one.failure]
        return [
            first + (f"; and {len(more)} more ('mmcl plugins' lists them)" if more else "")
            for first, *more in filter(None, told)
        ]

    def kept(self, what: str, about: Mapping[str, Any]) -> Offer:
        """What a file of an earlier run names: `use`, and the package and version that offered it then.

        Raises PluginError, with that package, if it is not offered here any more.
        """
        try:
            return self.get(what, str(about["use"]))
        except UnknownNameError as error:
            package = str(about.get("package") or OURS)
            if _same(package, OURS):
                raise
            raise PluginError(
                f"{what} '{about['use']}' was offered by the package {package} {about.get('version', '')}, which does not offer it here"
                f"{_installing([(package, str(about.get('version', '')))])}"
            ) from error


def require_offered(plan: Mapping[str, Any], where: str) -> None:
    """Raise PluginError, which begins with `where`, for a kept plan whose plug-ins come from packages that are not installed here."""
    here, gone = [one.package for one in plugins().loaded if not one.failure], dict[str, tuple[str, str]]()
    sections: list[tuple[str, Any]] = [("", plan)]
    for key, section in sections:  # grows while it is walked
        if not isinstance(section, Mapping):
            continue
        sections += [(f"{key}.{name}".lstrip("."), inner) for name, inner in section.items()]
        package = section.get("package")
        if isinstance(package, str) and package and "use" in section and not any(_same(package, one) for one in here):
            gone[f"'{section['use']}' ({key})"] = (package, str(section.get("version")))
    if gone:
        raise PluginError(
            f"{where}: was made with plug-ins of packages that are not installed here, or do not load: "
            f"{', '.join(f'{name} of {package}=={version}' for name, (package, version) in gone.items())}{_installing(gone.values())}"
        )


def _installing(packages: Iterable[tuple[str, str]]) -> str:
    """What to install, for the end of a sentence about a file that names it; what no package or version is called does not reach a shell."""
    packages = dict.fromkeys(packages)
    named = [f"{package}=={version}" for package, version in packages]
    if all(_PACKAGE.fullmatch(package) and _VERSION.fullmatch(version) for package, version in packages):
        return f"; if you know that package: pip install {' '.join(named)}"
    return "; no package is called so: the file was changed"


def fault_of(error: Exception, parts: Iterable[tuple[str, Any]] = ()) -> PluginError | None:
    """What to say of an error that a stranger's code raised, or ran into, in one sentence; None where only our own was on the way.

    parts  the plan's plug-ins, each with its key in the recipe: those of the same package are named with their options

    What was noted on the error (`add_note`), such as the recordings at hand, is repeated.
    """
    frames = traceback.extract_tb(error.__traceback__)
    strangers = [(one, root) for one in plugins().loaded if one.package != OURS for root in roots_of(one.module)]
    for frame in reversed(frames):
        file = Path(frame.filename)
        owner = next((one for one, root in strangers if file == root or root in file.parents), None)
        if owner is not None:
            break
    else:
        return None
    used = [f"{part.what} '{part.use}' ({key}{_with(part.params)})" for key, part in parts if part.package == owner.package]
    what = f": {', '.join(used)}" if used else ""
    words = f"{type(error).__name__}: {str(error).strip() or 'no reason given'}".splitlines()[0]
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    return PluginError(
        f"plug-in '{owner.plugin}' (package {owner.package} {owner.version}{what}) failed in {file.name} line {frame.lineno}, "
        f"{frame.name}: {words}{notes}; --traceback (or MMCL_TRACEBACK=1) shows the way there"
    )


def _with(params: Params) -> str:
    """A plug-in's options, as a few words."""
    options = ", ".join(f"{name}: {value}" for name, value in params.stated().items())
    return f", {options if len(options) < 200 else options[:200] + ' …'}" if options else ""


@functools.cache
def plugins() -> Plugins:
    """The installed plug-ins, loaded once. MMCL_PLUGINS limits strangers: `none`, or entry-point names, comma-separated."""
    return load(entry_points(), os.environ.get("MMCL_PLUGINS"))


def load(points: Iterable[importlib.metadata.EntryPoint], limit: str | None = None) -> Plugins:
    """The plug-ins behind some entry points. `limit` as in MMCL_PLUGINS; the built-in ones are always loaded."""
    wanted = None if limit is None else {n.strip() for n in limit.split(",") if n.strip()} - {"none"}
    seen: dict[tuple[str, str], Loaded] = {}
    known: dict[
        int, tuple[Any, str | None, str, str]
    ] = {}  # by distribution: a package's METADATA is parsed whole for each word of it
    for point in points:
        if id(point.dist) not in known:
            known[id(point.dist)] = point.dist, *_about(point.dist)
        _, broken, package, version = known[id(point.dist)]
        if broken:
            one = Loaded(plugin=point.name, package="?", version="", module=point.value, failure=broken)
            seen.setdefault((broken, point.name), one)
            continue
        if _same(package, OURS):
            package = OURS
        elif wanted is not None and point.name not in wanted and package not in wanted:
            continue
        if (package, point.name) not in seen:  # a package found twice on sys.path: the first one is the one Python imports
            began = time.perf_counter()
            with nullcontext() if package == OURS else _watched(point.name, package):
                one = _load_one(point, package, version)
            seen[package, point.name] = replace(one, seconds=time.perf_counter() - began)
    ordered = sorted(seen.values(), key=lambda one: (one.package != OURS, one.package, one.plugin))
    return Plugins(ordered)


@contextmanager
def _watched(plugin: str, package: str) -> Iterator[None]:
    """While a stranger is imported: what it prints goes to stderr, so that no answer is spoilt, and one that hangs is named."""

    def name_it() -> None:
        sys.stderr.write(
            f"mmcl: plug-in '{plugin}' of package {package} is still being imported after {PATIENCE:g} s; it may hang. MMCL_PLUGINS=none leaves "
            "strangers out, MMCL_PLUGINS=a,b all but those\n"
        )

    timer = threading.Timer(PATIENCE, name_it)
    timer.daemon = True
    timer.start()
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        timer.cancel()


def _about(dist: importlib.metadata.Distribution | None) -> tuple[str | None, str, str]:
    """Why a distribution is no whole one, if it is none; its name and version."""
    if dist is None:
        return None, OURS, ""
    broken = damage(dist)
    if broken:
        return broken, "?", ""
    metadata = dist.metadata
    return None, metadata["Name"], metadata["Version"] or ""


def _load_one(point: importlib.metadata.EntryPoint, package: str, version: str) -> Loaded:
    """Load one entry point; whatever goes wrong becomes its reason."""
    loaded = Loaded(plugin=point.name, package=package, version=version, module=point.value)
    offers: list[Offer] = []
    if package != OURS and point.dist is not None and (refused := unmet(point.dist, __version__)):
        return replace(loaded, failure=refused)
    try:
        module = point.load()
        _check_version(point.value, getattr(module, "MMCL_API", None))
        with _alone(module, point.name) as manager:
            if not manager.get_hookcallers(module):
                raise PluginError(
                    f"module '{point.value}' implements none of the hooks ({', '.join(h for h, _ in REGISTRIES.values())})"
                )
            outdated = _outdated_hooks(manager.get_hookcallers(module) or ())
            for what, (hook, kind) in REGISTRIES.items():

                def register(spec: Any, what: str = what, kind: type[Any] = kind) -> None:
                    _check(what, spec, kind, [o.name for o in offers if o.what == what])
                    fields = deprecated_fields(spec)
                    outdated.extend((f"{kind.__name__}.{name} ({what} '{spec.name}')", one) for name, one in fields.items())
                    offers.append(Offer(what, spec, package, version, point.name, point.value))

                getattr(manager.hook, hook)(register=register)
    # A stranger's import may raise anything at all, SystemExit included; it is reported, never passed over.
    except (Exception, SystemExit) as error:  # noqa: BLE001
        cause = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        return replace(loaded, failure=cause)
    return replace(loaded, offers=tuple(offers), outdated=tuple(outdated))


def _outdated_hooks(callers: Iterable[Any]) -> list[tuple[str, Deprecated]]:
    """The hooks that a plug-in implements and that will go, as their declarations say (`hookspec(warn_on_impl=Deprecation(…))`)."""
    told = [(caller.name, caller.spec.warn_on_impl) for caller in callers if caller.spec is not None]
    return [(f"hook {name}", one.args[1]) for name, one in told if isinstance(one, Deprecation)]


@functools.cache
def _manager() -> pluggy.PluginManager:
    """Knows the hooks, and of no plug-in: reading what the hooks are takes longer than most plug-ins do."""
    manager = pluggy.PluginManager(hooks.PROJECT)
    manager.add_hookspecs(hooks)
    return manager


@contextmanager
def _alone(module: Any, name: str) -> Iterator[pluggy.PluginManager]:
    """A manager that knows this plug-in and no other: none can disturb another's hooks. Raises what pluggy does for hooks that are none."""
    manager = _manager()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Deprecation)  # it is said in a sentence of ours
            manager.register(module, name)
        manager.check_pending()
        yield manager
    finally:
        if manager.is_registered(module):
            manager.unregister(module)


def _check_version(module: str, declared: Any) -> None:
    """Refuse a plug-in that declares another first number of the contract than this one's, or a later second one."""
    if declared is None:
        return
    if not isinstance(declared, str) or not re.fullmatch(r"[0-9]+(\.[0-9]+)?", declared):
        raise PluginError(
            f"{module}.MMCL_API must be the contract's version as mmcl.api.VERSION has it, '{VERSION}'; got {declared!r}"
        )
    first, second, *_ = (int(number) for number in f"{declared}.0".split("."))
    mine = tuple(int(number) for number in VERSION.split("."))
    if first != mine[0]:
        raise PluginError(
            f"is written for contract {declared} of mmcl.api, and this mmcl has {VERSION}; install a release of it for contract {mine[0]}, "
            f"or an mmcl with contract {first}"
        )
    if second > mine[1]:
        raise PluginError(f"needs contract {declared} of mmcl.api, and this mmcl has {VERSION}; install a later mmcl")


def _check(what: str, spec: Any, kind: type[Any], taken: list[str]) -> None:
    """Refuse a spec that is not one, at the moment it is registered."""
    if not isinstance(spec, kind):
        raise PluginError(f"registered a {type(spec).__name__} as {what}; it must be a {kind.__name__}")
    if not isinstance(spec.name, str) or not _NAME.fullmatch(spec.name):
        raise PluginError(f"{what} name {spec.name!r} must be lower-case letters, digits and hyphens")
    if spec.name in taken:
        raise PluginError(f"registers {what} '{spec.name}' twice")
    if not spec.summary.strip() or "\n" in spec.summary:
        raise PluginError(f"{what} '{spec.name}' needs a one-line summary")
    params = getattr(spec, "params", None)
    if params is not None and not (isinstance(params, type) and issubclass(params, Params)):
        raise PluginError(f"{what} '{spec.name}': params must be a subclass of mmcl.api.Params")


def _same(left: str, right: str) -> bool:
    """Whether two distribution names are one by the rules of packaging."""

    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    return plain(left) == plain(right)


def network_of(built: Any, spec: Any, kind: str, where: str = "") -> Any:
    """What `build` of a backbone, a head or a pretext gave. Raises PluginError, which names the plug-in, if it is no torch.nn.Module.

    where  the place in a recipe, such as "modalities.voice.backbone"
    """
    # as torch, which only networks need, is not loaded here
    if not all(hasattr(built, name) for name in ("state_dict", "parameters", "forward")):
        module = str(getattr(spec.build, "__module__", "")).partition(".")[0]
        whose = "; ".join(one for one in (where, module) if one)
        raise PluginError(f"{kind} '{spec.name}' ({whose}): `build` gives a torch.nn.Module; it gave a {type(built).__name__}")
    return built
