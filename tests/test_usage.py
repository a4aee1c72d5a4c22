"""A provider's figures never make parts larger than their whole."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.usage import NOTHING, Usage

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
    assert usage.input_tokens == max(0, total)
    assert usage.output_tokens == max(0, output)


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
