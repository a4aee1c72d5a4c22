"""A provider's figures never make parts larger than their whole."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.usage import NOTHING, TOKENS_MAX, Usage

COUNT = st.integers(-100, 1000)


@given(COUNT, COUNT, COUNT, COUNT, COUNT, COUNT)
def test_parts_are_within_their_whole(
    total: int, output: int, cached: int, write: int, hour: int, reasoning: int
) -> None:
    """Whatever nonsense is reported."""
    usage = Usage.reported(
        input_tokens=total,
        output_tokens=output,
        cached_tokens=cached,
        cache_write_tokens=write,
        cache_write_1h_tokens=hour,
        reasoning_tokens=reasoning,
    )
    assert min(usage.cached_tokens, usage.cache_write_tokens, usage.cache_write_1h_tokens, usage.reasoning_tokens) >= 0
    assert usage.cached_tokens + usage.cache_write_tokens + usage.cache_write_1h_tokens <= usage.input_tokens
    assert usage.reasoning_tokens <= usage.output_tokens
    assert usage.input_tokens == min(max(0, total), TOKENS_MAX)
    assert usage.output_tokens == min(max(0, output), TOKENS_MAX)


def test_what_no_model_takes_is_cut() -> None:
    """A server of a customer's own says what it likes: nothing of it overflows a column of the ledger."""
    usage = Usage.reported(input_tokens=1 << 64, output_tokens=1 << 63, cached_tokens=1 << 64, reasoning_tokens=1 << 64)
    assert usage == Usage(
        TOKENS_MAX, TOKENS_MAX, cached_tokens=TOKENS_MAX, reasoning_tokens=TOKENS_MAX, implausible=True
    )


def test_sound_figures_are_kept() -> None:
    """As reported."""
    usage = Usage.reported(
        input_tokens=100,
        output_tokens=50,
        cached_tokens=60,
        cache_write_tokens=30,
        cache_write_1h_tokens=10,
        reasoning_tokens=50,
    )
    assert usage == Usage(100, 50, 60, 30, 10, 50)
    assert Usage.reported(input_tokens=0, output_tokens=0) == NOTHING
