"""What can be wrong with modes as a whole: names, numbers that do not go together, sizes, a budget too small."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from proxy.catalogue import BYO_PREFIX, Model
from proxy.config.consensus_budgets import smallest_run
from proxy.config.consensus_entries import ConsensusFile, ModeEntry
from proxy.config.problems import Marks, Problem, near
from proxy.consensus.settings import AUTO, Consensus, Mode
from proxy.panels import shortage
from proxy.pricing.money import usd_text


def name_problems(
    file: ConsensusFile, marks: Marks, panels: Mapping[str, str], plain: Mapping[str, Model]
) -> Iterator[Problem]:
    """Modes that are not there, and names that are taken. `panels`: model name -> mode."""
    if file.prefix.startswith(BYO_PREFIX):
        yield marks.problem(("prefix",), f"names that begin with '{BYO_PREFIX}' are kept for customers' own models")
    if AUTO in file.modes:
        yield marks.problem(("modes", AUTO), f"'{AUTO}' is no mode of its own: set the key 'auto' above", key=True)
    for name, mode in panels.items():
        if name in plain:
            where = ("auto",) if mode == AUTO else ("modes", mode)
            yield marks.problem(
                where, f"the name '{name}' is already taken by a model of models.yaml: rename one of them", key=True
            )
    if file.default not in file.modes and not (file.default == AUTO and file.auto is not None):
        yield marks.problem(
            ("default",), f"there is no mode '{file.default}'", suggestion=near(file.default, file.modes)
        )
    for index, mode in enumerate(file.auto or ()):
        if mode not in file.modes:
            yield marks.problem(("auto", index), f"there is no mode '{mode}'", suggestion=near(mode, file.modes))
    if file.auto is None or not set(file.auto) <= file.modes.keys():
        return
    first, second = (file.modes[mode] for mode in file.auto)
    if file.auto[0] == file.auto[1]:
        yield marks.problem(("auto", 1), "the second mode is another one than the first")
    elif second.price.usd < first.price.usd or second.budget_usd < first.budget_usd:
        yield marks.problem(("auto", 1), "the second is the dearer mode, in price and in budget: 'auto' costs as much")
    if first.tiers and second.tiers and not set(first.tiers) & set(second.tiers):
        yield marks.problem(("auto", 1), "no tier may ask for both modes, so nobody for 'auto': set auto: null")


def mode_problems(mode: Mode, entry: ModeEntry, marks: Marks, tiers: Collection[str]) -> Iterator[Problem]:
    """Numbers that contradict each other. `mode` may lack seats, of which other problems tell."""
    if mode.quorum > len(entry.members):
        yield marks.problem(("quorum",), f"more than its {len(entry.members)} members")
    vendors = len({seat.vendor for seat in mode.seats})
    if mode.vendors_min > vendors and len(mode.seats) == len(entry.members):
        names = ", ".join(dict.fromkeys(seat.vendor for seat in mode.seats))
        yield marks.problem(
            ("vendors_min",),
            f"more than the vendors of its members ({names}): seat another, or say vendors_min: {vendors}",
        )
    if not mode.evaluate:
        for key in ("refine_rounds_max", "reevaluate", "check_claims"):
            if getattr(mode, key):
                yield marks.problem((key,), "needs 'evaluate: true': it works on what the members say of each other")
    if mode.reevaluate and not mode.refine_rounds_max:
        yield marks.problem(("reevaluate",), "nothing is refined here: set refine_rounds_max")
    for index, tier in enumerate(entry.tiers):
        if tier not in tiers:
            message = f"there is no tier '{tier}' in tiers.yaml"
            yield marks.problem(("tiers", index), message, suggestion=near(tier, tiers))
    limits = mode.deadlines
    for key, seconds, longer, most in (
        ("call_seconds", limits.call, "total_seconds", limits.total),
        ("first_byte_seconds", limits.first_byte, "call_seconds", limits.call),
        ("idle_seconds", limits.idle, "call_seconds", limits.call),
    ):
        if seconds > most:
            yield marks.problem(("deadlines", key), f"more than {longer}, which is {most:g}")
    if mode.tokens.final > mode.tokens.final_max:
        yield marks.problem(("tokens", "final"), f"more than final_max, which is {mode.tokens.final_max}")


def size_problems(mode: Mode, marks: Marks, models: Mapping[str, Model]) -> Iterator[Problem]:
    """Answers that a model cannot give, and questions that it has no room for."""
    tokens = mode.tokens
    asked = {"member": tokens.member}
    if mode.evaluate:
        asked["evaluation"] = tokens.evaluation
    if mode.check_claims:
        asked["check"] = tokens.check
    written = {"final_max": tokens.final_max}
    answers = len(mode.seats) * tokens.member
    for seats, limits in (((*mode.seats, *mode.spares), asked), (mode.synthesisers, written)):
        for key, limit in limits.items():
            least = min(seats, key=lambda seat: models[seat.model].output_tokens_max, default=None)
            if least is not None and (most := models[least.model].output_tokens_max) < limit:
                yield marks.problem(("tokens", key), f"'{least.model}' puts out at most {most} tokens (output_max)")
    alone = mode.input_tokens_max + tokens.member
    among = mode.input_tokens_max + answers + max([tokens.evaluation, tokens.final_max])
    for seat in {seat.model: seat for seat in (*mode.seats, *mode.spares, *mode.synthesisers)}.values():
        needed = among if mode.evaluate or seat in mode.synthesisers else alone
        if 0 < seat.context_tokens < needed:
            yield marks.problem(
                ("input_tokens_max",),
                f"'{seat.model}' takes {seat.context_tokens} tokens, and with the answers that it reads and writes it "
                f"would need {needed}",
            )


def budget_problems(consensus: Consensus, mode: Mode, marks: Marks, models: Mapping[str, Model]) -> Iterator[Problem]:
    """A budget that the smallest run does not fit into. Of a mode whose seats are in order."""
    if shortage(mode):
        return
    needed = smallest_run(mode, consensus.prompts, consensus.rules, models)
    if mode.budget < needed:
        yield marks.problem(
            ("budget_usd",),
            f"{mode.quorum} answers and a synthesis can cost {usd_text(needed)} where the question has "
            f"{mode.input_tokens_max} tokens: set budget_usd to that at least, or lower input_tokens_max",
        )
