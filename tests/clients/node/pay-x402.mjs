// Sends BODY to URL with the x402 SDK and prints what came of it as one JSON line.
// EVM_KEY: the payer's private key, 0x and 64 hex digits. NETWORK: eip155:8453 unless said otherwise.
import { decodePaymentResponseHeader, wrapFetchWithPaymentFromConfig } from "@x402/fetch";
import { ExactEvmScheme } from "@x402/evm";
import { privateKeyToAccount } from "viem/accounts";

const { URL: url, BODY: body, EVM_KEY: key, NETWORK: network = "eip155:8453" } = process.env;
const account = privateKeyToAccount(key);
const sent = [];
const watched = async (input, init) => {
  const request = new Request(input, init);
  sent.push(request.headers.get("payment-signature"));
  return fetch(request);
};
const paying = wrapFetchWithPaymentFromConfig(watched, {
  schemes: [{ network, client: new ExactEvmScheme(account) }],
});

const answer = await paying(url, { method: "POST", headers: { "content-type": "application/json" }, body });
const receipt = answer.headers.get("payment-response");
console.log(JSON.stringify({
  status: answer.status,
  headers: Object.fromEntries(answer.headers),
  body: await answer.text(),
  payer: account.address,
  requests: sent.length,
  signature: sent.at(-1),
  receipt: receipt && decodePaymentResponseHeader(receipt),
}));
