// Sends BODY to URL with Alby's client and prints what came of it as one JSON line.
// CLIENT: fetch402 (default: whichever protocol it finds), fetchWithL402 or fetchWithMpp.
// The wallet asks WALLET_URL: POST {invoice} -> {preimage}. CREDENTIALS: shown again in place of paying.
import * as lightning from "@getalby/lightning-tools/402";

const { URL: url, BODY: body, CLIENT: client = "fetch402", WALLET_URL: walletUrl, CREDENTIALS: kept } = process.env;
const invoices = [];
const wallet = {
  async payInvoice({ invoice }) {
    invoices.push(invoice);
    const answer = await fetch(walletUrl, { method: "POST", body: JSON.stringify({ invoice }) });
    if (!answer.ok) throw new Error(`the wallet answered ${answer.status}: ${await answer.text()}`);
    return answer.json();
  },
};

const asked = { method: "POST", headers: { "content-type": "application/json" }, body };
const credentials = kept ? JSON.parse(kept) : undefined;
const answer = await lightning[client](url, asked, credentials ? { wallet, credentials } : { wallet });
console.log(JSON.stringify({
  status: answer.status,
  headers: Object.fromEntries(answer.headers),
  body: await answer.text(),
  invoices,
  payment: answer.payment ?? null,
}));
