"""In-process state that outlives a reload: token buckets and concurrency slots."""

from proxy.state.buckets import Accounts, Buckets, Claim, Denied, Rate
from proxy.state.counters import Counters
from proxy.state.slots import Lease, Slots, SlotsFull

__all__ = ["Accounts", "Buckets", "Claim", "Counters", "Denied", "Lease", "Rate", "Slots", "SlotsFull"]
