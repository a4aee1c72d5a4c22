# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Puts wallets where they were promised (CREATE2), as factories named in ERC-6492 signatures do.
@notice For tests.
"""

interface Wallet:
    def initialize(owner: address): nonpayable

implementation: public(address)


@deploy
def __init__(implementation: address):
    self.implementation = implementation


@external
def create(owner: address) -> address:
    made: address = create_minimal_proxy_to(self.implementation, salt=self._salt(owner))
    extcall Wallet(made).initialize(owner)
    return made


@external
@view
def wallet_of(owner: address) -> address:
    code: Bytes[64] = concat(
        0x602D3D8160093D39F3, 0x363d3d373d3d3d363d73, convert(self.implementation, bytes20), 0x5af43d82803e903d91602b57fd5bf3
    )
    hashed: bytes32 = keccak256(concat(0xff, convert(self, bytes20), self._salt(owner), keccak256(code)))
    return convert(convert(hashed, uint256) & (2**160 - 1), address)


@internal
@pure
def _salt(owner: address) -> bytes32:
    return keccak256(abi_encode(owner))
