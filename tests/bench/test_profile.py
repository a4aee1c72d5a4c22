"""Reading the sampler's output."""

from __future__ import annotations

import sysconfig

from bench.process import ROOT
from bench.profile import group_of, parse


def test_frames_and_counts_are_read() -> None:
    """`outer (file);inner (file:line) COUNT`, spaces in thread names included."""
    [(stack, count)] = parse("thread (171): Main Thread;run (/a/b.py);send (/c d.py:12) 7")
    assert count == 7
    assert stack[1:] == [("run", "/a/b.py"), ("send", "/c d.py")]


def test_files_belong_to_the_package_a_reader_knows() -> None:
    """Ours by folder, others' by distribution, the language's by module."""
    site, stdlib = sysconfig.get_path("purelib"), sysconfig.get_path("stdlib")
    assert group_of(f"{ROOT}/proxy/driver.py") == "proxy/driver.py"
    assert group_of(f"{ROOT}/proxy/ledger/store.py") == "proxy/ledger"
    assert group_of(f"{ROOT}/plugins/identity/plugin.py") == "plugins/identity"
    assert group_of(f"{site}/mitmproxy/proxy/server.py") == "mitmproxy"
    assert group_of(f"{stdlib}/asyncio/events.py") == "python: asyncio"
    assert group_of("libc.so.6") == "native: libc"
