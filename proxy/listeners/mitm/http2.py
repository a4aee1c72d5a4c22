"""HTTP/2."""
from __future__ import annotations
from mitmproxy.proxy.layer import Layer
class Http2Layer(Layer):
    pass
