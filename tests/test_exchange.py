"""An exchange and its branches: what attempts made at once share, and what is their own."""

from __future__ import annotations

from proxy.errors import Refusal
from proxy.exchange import Finish
from proxy.routes import Route
from proxy.usage import Usage
from tests.support.fakes import Chunks, exchange, identity, model


def test_branch_shares_what_is_known_and_keeps_what_it_finds_out() -> None:
    """Nothing of it shows in the exchange before it is adopted."""
    whole = exchange()
    whole.identity, whole.model, whole.route = identity(), model(), Route()
    branch = whole.branch(Route())
    assert (branch.request, branch.identity, branch.model) == (whole.request, whole.identity, whole.model)
    branch.usage, branch.refusal = Usage(1, 2), Refusal("upstream_error", "no")
    branch.streams.append(Chunks())
    branch.on_finish(lambda _: None)
    assert (whole.usage, whole.refusal, whole.streams, whole.finished) == (None, None, [], None)
    assert branch.route is not whole.route


def test_adopted_branch_ends_with_the_exchange_and_before_what_stands_around_it() -> None:
    """Once, last registered first; usage that it learns at its end is the exchange's for those further out."""
    whole, order = exchange(), []
    whole.on_finish(lambda _: order.append(("outer", whole.usage)))
    branch = whole.branch(Route())

    def learn(_: Finish) -> None:
        branch.usage = Usage(3, 4)
        order.append(("branch", branch.usage))

    branch.on_finish(learn)
    stream = Chunks()
    branch.streams.append(stream)
    whole.adopt(branch)
    assert whole.streams == [stream]
    assert whole.finish(Finish.SERVED) == []
    assert whole.finish(Finish.SERVED) == []
    assert order == [("branch", Usage(3, 4)), ("outer", Usage(3, 4))]


def test_branch_that_is_not_adopted_ends_by_itself() -> None:
    """The exchange's own callbacks are not among its."""
    whole, ended = exchange(), []
    whole.on_finish(lambda reason: ended.append(("whole", reason)))
    branch = whole.branch(Route())
    branch.on_finish(lambda reason: ended.append(("branch", reason)))
    branch.finish(Finish.UPSTREAM_FAILED)
    assert (ended, whole.finished) == ([("branch", Finish.UPSTREAM_FAILED)], None)
    whole.finish(Finish.SERVED)
    assert ended == [("branch", Finish.UPSTREAM_FAILED), ("whole", Finish.SERVED)]
