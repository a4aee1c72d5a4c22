"""anvil with chain id 8453, an EIP-3009 token at the canonical USDC address, and wallets that are contracts."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any, Self

from eth_abi import decode, encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_utils import keccak, to_checksum_address

from tests.peers.chain import rpc
from tests.peers.chain.rpc import NodeError

HERE = Path(__file__).parent
CHAIN_ID = 8453
NETWORK = f"eip155:{CHAIN_ID}"
USDC = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
MULTICALL3 = "0xcA11bde05977b3631167028862bE2a173976CA11"
ETHER = 10**18
START_SECONDS_MAX = 20.0
LANDING_SECONDS_MAX = 10.0
ERC6492_MAGIC = bytes.fromhex("6492" * 16)
_LISTENING = re.compile(rb"Listening on 127\.0\.0\.1:(\d+)")


class ChainMissing(Exception):
    """anvil is not installed; the message says how."""


@cache
def compiled() -> dict[str, dict[str, str]]:
    """The contracts' code, as hex: `deploy` and `code`."""
    return json.loads((HERE / "contracts" / "compiled.json").read_text())  # type: ignore[no-any-return]


def anvil() -> list[str]:
    """The command. The platform's own binary, so that its pid is the chain's."""
    for binary in sorted(HERE.glob("node_modules/@foundry-rs/anvil-*/bin/anvil*")):
        return [str(binary)]
    raise ChainMissing("anvil is not installed: run scripts/test-programs, or 'npm ci' in tests/peers/chain")


def selector(signature: str) -> bytes:
    """The first four bytes of a call."""
    return keccak(signature.encode())[:4]


def calldata(signature: str, *values: Any) -> str:
    """A call as hex: `calldata("mint(address,uint256)", holder, 5)`."""
    types = signature[signature.index("(") + 1 : -1]
    return "0x" + (selector(signature) + encode(types.split(",") if types else [], values)).hex()


class Chain:
    """A running chain. Its helpers block for a millisecond or two."""

    def __init__(self, *, block_seconds: int | None = None) -> None:
        self._block_seconds = block_seconds
        self._automine = block_seconds is None
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        """Its JSON-RPC."""
        self.network = NETWORK
        self.usdc = USDC
        self.payer: LocalAccount = Account.from_key(keccak(b"payer"))
        """Has dollars when told so by `mint`, and no ether: payers need none."""
        self.other: LocalAccount = Account.from_key(keccak(b"other payer"))
        self.signer: LocalAccount = Account.from_key(keccak(b"signer"))
        """Has ether, for gas."""
        self.facilitator: LocalAccount = Account.from_key(keccak(b"facilitator"))
        """The same, for the facilitator."""
        self.pay_to = to_checksum_address(keccak(b"us")[:20])

    def __enter__(self) -> Self:
        timed = [] if self._block_seconds is None else ["--block-time", str(self._block_seconds)]
        command = [*anvil(), "--host", "127.0.0.1", "--port", "0", "--chain-id", str(CHAIN_ID), "--accounts", "1"]
        self._process = subprocess.Popen([*command, *timed], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            self.url = f"http://127.0.0.1:{self._port(self._process)}"
            self._furnish()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def call(self, method: str, *params: Any) -> Any:
        """Any JSON-RPC call, anvil's own among them. Raises NodeError."""
        return rpc.call(self.url, method, *params)

    def read(self, to: str, signature: str, *values: Any, returns: str = "uint256") -> Any:
        """What a view function returns."""
        answer = self.call("eth_call", {"to": to, "data": calldata(signature, *values)}, "latest")
        return decode([returns], bytes.fromhex(answer[2:]))[0]

    def send(self, account: LocalAccount, to: str | None, data: str, gas: int = 2_000_000) -> str:
        """Send a transaction of any account (paid by nobody); its hash."""
        self.call("anvil_setBalance", account.address, hex(ETHER))
        fields: dict[str, Any] = {
            "chainId": CHAIN_ID,
            "nonce": int(self.call("eth_getTransactionCount", account.address, "pending"), 16),
            "gas": gas,
            "maxFeePerGas": 10**10,
            "maxPriorityFeePerGas": 1,
            "value": 0,
            "data": data,
        }
        raw = account.sign_transaction(fields if to is None else fields | {"to": to}).raw_transaction
        transaction = str(self.call("eth_sendRawTransaction", "0x" + raw.hex()))
        if self._automine:
            self.receipt(transaction)
        return transaction

    def receipt(self, transaction: str) -> dict[str, Any]:
        """Of a transaction that is about to land: a block is made just after it was taken."""
        until = time.monotonic() + LANDING_SECONDS_MAX
        while (found := self.call("eth_getTransactionReceipt", transaction)) is None:
            if time.monotonic() > until:
                raise NodeError(f"{transaction} did not land")
            time.sleep(0.002)
        return dict(found)

    def deploy(self, name: str, *values: Any, types: tuple[str, ...] = ()) -> str:
        """Deploy one of the contracts; its address."""
        data = compiled()[name]["deploy"] + encode(types, values).hex()
        receipt = self.receipt(self.send(self.facilitator, None, data))
        return str(to_checksum_address(receipt["contractAddress"]))

    def mint(self, holder: str, value: int) -> None:
        """Give dollars, in millionths."""
        self.send(self.facilitator, USDC, calldata("mint(address,uint256)", holder, value))

    def balance(self, holder: str) -> int:
        """Dollars in millionths."""
        return int(self.read(USDC, "balanceOf(address)", holder))

    def authorization_state(self, payer: str, nonce: bytes) -> bool:
        """Whether the authorization was used, or cancelled."""
        return bool(self.read(USDC, "authorizationState(address,bytes32)", payer, nonce, returns="bool"))

    def transfer(self, sender: LocalAccount, receiver: str, value: int) -> str:
        """A plain transfer; its transaction."""
        return self.send(sender, USDC, calldata("transfer(address,uint256)", receiver, value))

    def cancel(self, payer: LocalAccount, nonce: bytes) -> str:
        """The payer cancels its authorization."""
        types = {"CancelAuthorization": [("authorizer", "address"), ("nonce", "bytes32")]}
        signature = sign(payer, types, {"authorizer": payer.address, "nonce": nonce})
        data = calldata(
            "cancelAuthorization(address,bytes32,uint8,bytes32,bytes32)",
            payer.address, nonce, signature[64], signature[:32], signature[32:64],
        )  # fmt: skip
        return self.send(self.other, USDC, data)

    def wallet(self, owner: str) -> str:
        """A wallet that is a contract, deployed, of this owner."""
        factory = self.factory()
        self.send(self.facilitator, factory, calldata("create(address)", owner))
        return self.wallet_address(factory, owner)

    def factory(self) -> str:
        """A factory of such wallets."""
        return self.deploy("factory", self.deploy("wallet"), types=("address",))

    def wallet_address(self, factory: str, owner: str) -> str:
        """Where `factory` would put the wallet of `owner`."""
        return str(to_checksum_address(self.read(factory, "wallet_of(address)", owner, returns="address")))

    def now(self) -> int:
        """The newest block's time, in seconds."""
        return int(self.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def mine(self, blocks: int = 1, seconds: int = 0) -> None:
        """Blocks, the first of them so much later."""
        if seconds:
            self.call("evm_increaseTime", seconds)
        self.call("anvil_mine", hex(blocks))

    def automine(self, on: bool) -> None:
        """Off: transactions wait until `mine`."""
        self.call("evm_setAutomine", on)
        self._automine = on

    def _furnish(self) -> None:
        self.call("anvil_setCode", USDC, compiled()["token"]["code"])
        self.call("anvil_setCode", MULTICALL3, compiled()["multicall"]["code"])
        for account in (self.signer, self.facilitator):
            self.call("anvil_setBalance", account.address, hex(100 * ETHER))

    @staticmethod
    def _port(process: subprocess.Popen[bytes]) -> int:
        """From its own words; what it says later is read away."""
        assert process.stdout is not None
        timer = threading.Timer(START_SECONDS_MAX, process.kill)
        timer.start()
        try:
            said = b""
            for line in process.stdout:
                said += line
                if found := _LISTENING.search(line):
                    threading.Thread(target=_drain, args=(process.stdout,), daemon=True).start()
                    return int(found[1])
        finally:
            timer.cancel()
        raise ChainMissing(f"anvil did not start: {said.decode(errors='replace')[-500:]}")


def _drain(stream: Any) -> None:
    try:
        while stream.read(65_536):
            continue
    except ValueError:  # Closed under us.
        return


def sign(
    account: LocalAccount, types: dict[str, list[tuple[str, str]]], message: dict[str, Any], **domain: Any
) -> bytes:
    """65 bytes over EIP-712 typed data in the token's domain; `domain` changes members of it."""
    signable = encode_typed_data(
        {"name": "USD Coin", "version": "2", "chainId": CHAIN_ID, "verifyingContract": USDC} | domain,
        {name: [{"name": field, "type": type_} for field, type_ in fields] for name, fields in types.items()},
        message,
    )
    return bytes(account.sign_message(signable).signature)


def wrapped(factory: str, factory_calldata: str, signature: bytes) -> bytes:
    """An ERC-6492 signature, of a wallet that is not deployed yet."""
    data = bytes.fromhex(factory_calldata[2:])
    return encode(["address", "bytes", "bytes"], [factory, data, signature]) + ERC6492_MAGIC
