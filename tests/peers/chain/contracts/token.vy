# pragma version 0.4.3
# pragma evm-version cancun
"""
@title A dollar token as EIP-3009 describes it, with the events, errors and both signature forms of USDC 2.2.
@notice For tests. Anybody may mint. Its EIP-712 domain is computed when asked, so that its code works at any address.
"""

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    amount: uint256

event AuthorizationUsed:
    authorizer: indexed(address)
    nonce: indexed(bytes32)

event AuthorizationCanceled:
    authorizer: indexed(address)
    nonce: indexed(bytes32)

interface ERC1271:
    def isValidSignature(digest: bytes32, signature: Bytes[2048]) -> bytes4: view

DOMAIN: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
TRANSFER: constant(bytes32) = keccak256(
    "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
CANCEL: constant(bytes32) = keccak256("CancelAuthorization(address authorizer,bytes32 nonce)")
BYTES_FORM: constant(Bytes[4]) = x"cf092995"
IDENTITY: constant(address) = 0x0000000000000000000000000000000000000004

name: public(constant(String[8])) = "USD Coin"
symbol: public(constant(String[4])) = "USDC"
version: public(constant(String[1])) = "2"
decimals: public(constant(uint8)) = 6

totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
authorizationState: public(HashMap[address, HashMap[bytes32, bool]])


@external
@view
def DOMAIN_SEPARATOR() -> bytes32:
    return self._domain()


@external
def mint(receiver: address, amount: uint256):
    self.balanceOf[receiver] += amount
    self.totalSupply += amount
    log Transfer(sender=empty(address), receiver=receiver, amount=amount)


@external
def transfer(receiver: address, amount: uint256) -> bool:
    self._move(msg.sender, receiver, amount)
    return True


@external
def transferWithAuthorization(
    payer: address,
    payee: address,
    amount: uint256,
    valid_after: uint256,
    valid_before: uint256,
    nonce: bytes32,
    v: uint8,
    r: bytes32,
    s: bytes32,
):
    signature: Bytes[65] = concat(r, s, slice(convert(v, bytes32), 31, 1))
    self._transfer(payer, payee, amount, valid_after, valid_before, nonce, signature)


@external
def cancelAuthorization(authorizer: address, nonce: bytes32, v: uint8, r: bytes32, s: bytes32):
    self._unused(authorizer, nonce)
    signature: Bytes[65] = concat(r, s, slice(convert(v, bytes32), 31, 1))
    self._signed(authorizer, keccak256(abi_encode(CANCEL, authorizer, nonce)), signature)
    self.authorizationState[authorizer][nonce] = True
    log AuthorizationCanceled(authorizer=authorizer, nonce=nonce)


@external
def __default__():
    # The form of transferWithAuthorization that takes `bytes signature`: Vyper has no overloading.
    assert slice(msg.data, 0, 4) == BYTES_FORM, "unknown function"
    assert len(msg.data) <= 4096, "too long"
    data: Bytes[4096] = raw_call(IDENTITY, msg.data, max_outsize=4096, is_static_call=True)
    payer: address = empty(address)
    payee: address = empty(address)
    amount: uint256 = 0
    valid_after: uint256 = 0
    valid_before: uint256 = 0
    nonce: bytes32 = empty(bytes32)
    signature: Bytes[2048] = b""
    payer, payee, amount, valid_after, valid_before, nonce, signature = abi_decode(
        slice(data, 4, len(data) - 4),
        (address, address, uint256, uint256, uint256, bytes32, Bytes[2048]),
    )
    self._transfer(payer, payee, amount, valid_after, valid_before, nonce, signature)


@internal
def _transfer(
    payer: address,
    payee: address,
    amount: uint256,
    valid_after: uint256,
    valid_before: uint256,
    nonce: bytes32,
    signature: Bytes[2048],
):
    assert block.timestamp > valid_after, "FiatTokenV2: authorization is not yet valid"
    assert block.timestamp < valid_before, "FiatTokenV2: authorization is expired"
    self._unused(payer, nonce)
    hashed: bytes32 = keccak256(abi_encode(TRANSFER, payer, payee, amount, valid_after, valid_before, nonce))
    self._signed(payer, hashed, signature)
    self.authorizationState[payer][nonce] = True
    log AuthorizationUsed(authorizer=payer, nonce=nonce)
    self._move(payer, payee, amount)


@internal
def _move(sender: address, receiver: address, amount: uint256):
    assert self.balanceOf[sender] >= amount, "ERC20: transfer amount exceeds balance"
    self.balanceOf[sender] -= amount
    self.balanceOf[receiver] += amount
    log Transfer(sender=sender, receiver=receiver, amount=amount)


@internal
@view
def _unused(authorizer: address, nonce: bytes32):
    assert not self.authorizationState[authorizer][nonce], "FiatTokenV2: authorization is used or canceled"


@internal
@view
def _domain() -> bytes32:
    return keccak256(abi_encode(DOMAIN, keccak256(name), keccak256(version), chain.id, self))


@internal
@view
def _signed(signer: address, hashed: bytes32, signature: Bytes[2048]):
    # As USDC 2.2 does: where there is code, the code alone decides.
    digest: bytes32 = keccak256(concat(b"\x19\x01", self._domain(), hashed))
    if signer.codesize > 0:
        answer: bytes4 = staticcall ERC1271(signer).isValidSignature(digest, signature)
        assert answer == 0x1626ba7e, "FiatTokenV2: invalid signature"
    else:
        assert len(signature) == 65, "ECRecover: invalid signature length"
        r: bytes32 = extract32(signature, 0)
        s: bytes32 = extract32(signature, 32)
        v: uint256 = convert(slice(signature, 64, 1), uint256)
        recovered: address = ecrecover(digest, v, r, s)
        assert recovered != empty(address) and recovered == signer, "FiatTokenV2: invalid signature"
