"""config.yaml and policies/ -> one frozen Generation, or every problem at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from proxy.clock import SystemClock
from proxy.config.byo import build_byo
from proxy.config.captures import build_capture
from proxy.config.chain import build_chain
from proxy.config.consensus import build_consensus
from proxy.config.consensus_entries import ConsensusFile
from proxy.config.expansion import expand_document
from proxy.config.listeners import build_listeners
from proxy.config.model_entries import ModelsFile
from proxy.config.models import build_models
from proxy.config.partners import check_partners
from proxy.config.payments import build_payments
from proxy.config.policies import CaptureFile, LimitsFile, TeamsFile, TiersFile
from proxy.config.problems import ConfigProblems, Marks, Problem, problems_of
from proxy.config.problems import Path as KeyPath
from proxy.config.rule_building import RuleBuilder
from proxy.config.rule_hours import is_zone, zone_problem
from proxy.config.schema import ConfigFile, Generation
from proxy.config.source import read_document
from proxy.config.teams import build_limits, build_organisation_rules, build_organisations, build_teams
from proxy.config.upstreams import build_upstreams
from proxy.consensus.settings import Consensus
from proxy.operation_table import PUBLIC
from proxy.secrets import environment as process_environment

POLICIES: Final[dict[str, type[BaseModel]]] = {
    "models.yaml": ModelsFile,
    "tiers.yaml": TiersFile,
    "teams.yaml": TeamsFile,
    "limits.yaml": LimitsFile,
    "capture.yaml": CaptureFile,
    "consensus.yaml": ConsensusFile,
}
"""Every file of the policies folder."""
OPTIONAL: Final = frozenset({"consensus.yaml"})
"""Those that need not be there."""


class _File[M: BaseModel]:
    """One file, read, expanded and validated."""

    def __init__(self, model: M, marks: Marks, unset: Mapping[KeyPath, str]) -> None:
        self.model = model
        self.marks = marks
        self.unset = unset


class _Reader:
    """Reads the files of one configuration and gathers what is wrong with each."""

    def __init__(self, root: Path, variables: Mapping[str, str], problems: list[Problem]) -> None:
        self._root = root
        self._variables = variables
        self._problems = problems

    def read[M: BaseModel](self, path: Path, model: type[M]) -> _File[M] | None:
        """None where the file cannot be used; the problems say why."""
        try:
            document = read_document(path, str(path))
        except ConfigProblems as error:
            self._problems.extend(error.problems)
            return None
        expanded = expand_document(
            document, self._variables, root=self._root, secret=_is_secret, optional=_is_upstream_key
        )
        self._problems.extend(expanded.problems)
        try:
            validated = model.model_validate({} if expanded.data is None else expanded.data)
        except ValidationError as error:
            self._problems.extend(problems_of(error, document.marks, model))
            return None
        return _File(validated, document.marks, expanded.unset)


def _is_upstream_key(path: KeyPath) -> bool:
    return len(path) == 3 and path[0] == "upstreams" and path[2] == "key"


_RPC: Final = ("payments", "x402", "rpc")
_PAYMENT_SECRETS: Final[frozenset[KeyPath]] = frozenset({
    ("payments", "secret"), ("payments", "lightning", "credential"), ("payments", "x402", "signer_key"),
})  # fmt: skip


def _is_secret(path: KeyPath) -> bool:
    """Where `file:PATH` is read: keys, tokens and credentials of all kinds, settings of plugins."""
    if path[:1] == ("chain",) or _is_upstream_key(path):
        return True
    if len(path) == 4 and path[0] == "upstreams" and path[2] == "headers":
        return True
    if path[:2] == ("byo", "keys") or (len(path) == 3 and path[0] == "listeners" and path[2] == "token"):
        return True
    return path in _PAYMENT_SECRETS or path[:3] in (("payments", "x402", "facilitator_headers"), _RPC)


def load_generation(
    path: Path,
    *,
    environment: Mapping[str, str] | None = None,
    known_plugins: Collection[str] | None = None,
) -> Generation:
    """Read config.yaml at `path` and the policies it names. Raises ConfigProblems with every mistake found.

    `known_plugins` are the short names that the chain may use; None: any. The settings of plugins are not
    validated here: whoever knows the classes does, with `problems_of(error, generation.chain_marks[i], Settings)`.
    """
    root = path.parent
    problems: list[Problem] = []
    reader = _Reader(root, process_environment() if environment is None else environment, problems)
    config = reader.read(path, ConfigFile)
    folder = root / (config.model.policies if config is not None else "policies")
    models = reader.read(folder / "models.yaml", ModelsFile)
    tiers = reader.read(folder / "tiers.yaml", TiersFile)
    teams = reader.read(folder / "teams.yaml", TeamsFile)
    limits = reader.read(folder / "limits.yaml", LimitsFile)
    capture = reader.read(folder / "capture.yaml", CaptureFile)
    panels_path = folder / "consensus.yaml"
    panels = reader.read(panels_path, ConsensusFile) if panels_path.exists() else None
    if not (config and models and tiers and teams and limits and capture) or (panels is None and panels_path.exists()):
        raise ConfigProblems(_in_order(problems))
    generation = _assemble(config, models, tiers, teams, limits, capture, panels, problems, known_plugins, root)
    if problems:
        raise ConfigProblems(_in_order(problems))
    return generation


def _assemble(
    config: _File[ConfigFile],
    models: _File[ModelsFile],
    tiers: _File[TiersFile],
    teams: _File[TeamsFile],
    limits: _File[LimitsFile],
    capture: _File[CaptureFile],
    panels: _File[ConsensusFile] | None,
    problems: list[Problem],
    known_plugins: Collection[str] | None,
    root: Path,
) -> Generation:
    file, marks = config.model, config.marks
    if not is_zone(file.time_zone):
        problems.append(zone_problem(file.time_zone, marks))
    upstreams = build_upstreams(
        file.upstreams,
        marks.below("upstreams"),
        problems,
        unset={str(place[1]): variable for place, variable in config.unset.items()},
        root=root,
    )
    check_partners(file.partners, file.upstreams, marks.below("upstreams"), problems)
    catalogue = build_models(
        models.model,
        models.marks,
        problems,
        upstreams=upstreams,
        tiers=tiers.model.tiers,
        at_ms=SystemClock.now_ms(),
    )
    consensus: Consensus | None = None
    if panels is not None:
        consensus = build_consensus(panels.model, panels.marks, problems, models=catalogue, tiers=tiers.model.tiers)
    hosts = build_capture(capture.model.capture, capture.marks.below("capture"), problems, upstreams=upstreams)
    rules = RuleBuilder(
        problems,
        catalogue=catalogue.known,
        tiers=tiers.model.tiers,
        paths=[known.template for known in PUBLIC] + [path for host in hosts for path, _ in host.paths],
        time_zone=file.time_zone,
    )
    organisations = teams.model.organisations
    built_teams = build_teams(
        teams.model.teams, teams.marks.below("teams"), problems, organisations=organisations, rules=rules
    )
    listeners = build_listeners(file.listeners, marks.below("listeners"), problems, teams=built_teams, root=root)
    chain, chain_marks = build_chain(file.chain, marks.below("chain"), problems, known=known_plugins)
    return Generation(
        listeners=listeners,
        chain=chain,
        upstreams=upstreams.available,
        keyless_upstreams=upstreams.keyless,
        unavailable=upstreams.unavailable,
        models=catalogue.available,
        unavailable_models=catalogue.unavailable,
        organisations=build_organisations(organisations),
        organisation_rules=build_organisation_rules(organisations, teams.marks.below("organisations"), rules),
        teams=built_teams,
        tiers=tuple(tiers.model.tiers),
        limits=build_limits(limits.model, tiers.model.tiers),
        capture=hosts,
        file=file,
        root=root.resolve(),
        catalogue=catalogue.known,
        owner=models.model.owned_by,
        default_rate=catalogue.default_rate,
        payments=build_payments(file.payments, marks.below("payments"), problems, tiers=tiers.model.tiers, root=root),
        byo=build_byo(file.byo, marks.below("byo"), problems, entries=file.upstreams, upstreams=upstreams),
        consensus=consensus,
        chain_marks=chain_marks,
    )


def _in_order(problems: list[Problem]) -> list[Problem]:
    """config.yaml first, then file by file, top to bottom; each mistake once."""
    files = list(dict.fromkeys(problem.file for problem in problems))
    unique = dict.fromkeys(problems)
    return sorted(unique, key=lambda problem: (files.index(problem.file), problem.line, problem.column))


Finder = Callable[[str], type[BaseModel]]
"""From a plugin's name to its settings class. Raises LookupError with a sentence."""


def settings_problems(generation: Generation, find: Finder) -> list[Problem]:
    """Validate each plugin's settings in the chain against its class, at their places in the file."""
    problems: list[Problem] = []
    for (name, settings), marks in zip(generation.chain, generation.chain_marks, strict=True):
        try:
            model = find(name)
            model.model_validate(settings)
        except LookupError as error:
            problems.append(marks.problem((), str(error.args[0])))
        except ValidationError as error:
            problems.extend(problems_of(error, marks, model))
    return problems
