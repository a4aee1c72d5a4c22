# pragma version 0.4.3
# pragma evm-version cancun
"""
@title A contract wallet of one owner (EIP-1271).
@notice For tests. A signature is the owner's 65 bytes, or those behind any number of zero bytes (another length).
"""

owner: public(address)
closed: public(bool)


@external
def initialize(owner: address):
    assert self.owner == empty(address), "initialized already"
    self.owner = owner


@external
def close():
    assert msg.sender == self.owner
    self.closed = True


@external
@view
def isValidSignature(digest: bytes32, signature: Bytes[2048]) -> bytes4:
    if self.closed or len(signature) < 65:
        return 0xffffffff
    start: uint256 = len(signature) - 65
    r: bytes32 = extract32(signature, start)
    s: bytes32 = extract32(signature, start + 32)
    v: uint256 = convert(slice(signature, start + 64, 1), uint256)
    recovered: address = ecrecover(digest, v, r, s)
    if recovered != empty(address) and recovered == self.owner:
        return 0x1626ba7e
    return 0xffffffff
