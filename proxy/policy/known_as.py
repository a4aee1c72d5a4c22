"""By which names of ours a provider's model goes, so that a rule about a model holds however the model is asked for."""

from __future__ import annotations

from typing import Final

from proxy.catalogue import Model
from proxy.config.schema import Generation
from proxy.consensus.settings import AUTO
from proxy.panels import model_name

_RESOURCE: Final = "models/"
"""Google takes a model by its resource name, too."""
_VARIANT: Final = ":"
"""OpenRouter takes a way of serving a model behind its name (`:floor`), others a size of it."""


class ProviderNames:
    """From a provider's own name for a model to the names of our catalogue. Made once a configuration."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self._ours: dict[str, set[str]] = {}
        """By name of the catalogue."""
        self._theirs: dict[tuple[str | None, str], set[str]] = {}
        """By upstream (None: any) and its name."""
        for name, model in generation.catalogue.items():
            self._ours.setdefault(name.casefold(), set()).add(model.name)
            for candidate in () if model.lane or model.panel is not None else model.candidates:
                for upstream in (candidate.upstream, None):
                    known = (upstream, candidate.upstream_model.casefold())
                    self._theirs.setdefault(known, set()).add(model.name)

    def of(self, upstream: str, name: str) -> set[str]:
        """Ours for a model of this upstream, whatever its case."""
        return self._theirs.get((upstream, name.casefold()), set())

    def meant(self, name: str, upstream: str | None) -> set[str]:
        """All that a rule which denies models may call this one: itself in plain spelling, and our names for it.

        A variant is the model itself unless the catalogue tells the two apart. `upstream` None: whoever serves it.
        """
        plain = name.casefold().removeprefix(_RESOURCE)
        found = self._known(plain, upstream)
        if not found and _VARIANT in plain:
            plain = plain.partition(_VARIANT)[0]
            found = self._known(plain, upstream)
        return {name, plain} | found

    def _known(self, plain: str, upstream: str | None) -> set[str]:
        return self._ours.get(plain, set()) | self._theirs.get((upstream, plain), set())


_latest: ProviderNames | None = None


def provider_names(generation: Generation) -> ProviderNames:
    """Those of this configuration, remembered until another is asked for."""
    global _latest
    known = _latest
    if known is None or known.generation is not generation:
        known = _latest = ProviderNames(generation)
    return known


def meant_names(generation: Generation, model: Model) -> set[str]:
    """What stands behind a customer's own alias, and the modes that `auto` runs, for rules that deny models; nothing
    for all other models of the catalogue."""
    consensus = generation.consensus
    if model.panel is not None and consensus is not None and model.name == model_name(consensus, AUTO):
        return {model_name(consensus, mode) for mode in consensus.auto or ()}
    if not model.byo:
        return set()
    names = provider_names(generation)
    return {found for candidate in model.candidates for found in names.meant(candidate.upstream_model, None)}
