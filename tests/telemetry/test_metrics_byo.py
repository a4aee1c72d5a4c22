"""Customers' registrations add no series."""

from __future__ import annotations

from proxy.telemetry.metrics import Metrics


def test_all_customers_are_one_label() -> None:
    """Upstreams and circuits of registrations that come and go are counted as `byo`."""
    metrics = Metrics(upstreams=("openai",))
    for number in range(100):
        metrics.upstream_answered(f"byo:{number}", 0.1)
        metrics.circuit_opened(f"byo:{number}", "failing", again=False)
    metrics.upstream_answered("openai", 0.1)
    text = metrics.render()[0].decode()
    assert 'tollway_upstream_first_byte_seconds_count{upstream="byo"} 100' in text
    assert 'upstream="openai"' in text
    assert "byo:" not in text
