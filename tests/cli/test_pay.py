"""tollway pay, against a scripted proxy that wants to be paid by every rail."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from eth_account import Account
from typer.testing import CliRunner

from proxy.cli import app, opening
from proxy.clock import SystemClock
from proxy.config.schema import Generation
from proxy.payments.client import payer
from proxy.payments.keys import DerivedKeys
from proxy.payments.lightning.dev import DevNode
from proxy.payments.settings import Lightning, Payments
from tests.peers.paywall import BALANCE, TEXT, Paywall, ecash, failing, paywall

KEY = "0x" + "42" * 32
SECRET = b"s" * 32
Pay = Callable[..., Result]


@pytest.fixture
def wall() -> Iterator[Paywall]:
    with paywall() as made:
        yield made


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits are noted, not waited."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(payer.asyncio, "sleep", sleep)
    for name in ("TOLLWAY_PAY_KEY", "TOLLWAY_PAY_CASHU", "TOLLWAY_PAY_BALANCE"):
        monkeypatch.delenv(name, raising=False)
    return waited


@pytest.fixture
def pay(tmp_path: Path) -> Pay:
    """Runs the command with a file of its own for what is kept."""

    def run(*arguments: str, **environment: str) -> Result:
        kept = ["--kept", str(tmp_path / "kept.json")]
        return CliRunner().invoke(app, ["pay", *arguments, *kept], env=environment, terminal_width=200)

    return run


def kept(tmp_path: Path) -> list[dict[str, object]]:
    path = tmp_path / "kept.json"
    return json.loads(path.read_text()) if path.exists() else []


def asking(wall: Paywall, *more: str) -> list[str]:
    return ["--model", "gpt-4o", "--url", wall.url, "Say hello.", *more]


@pytest.fixture
def in_development(wall: Paywall, tmp_path: Path, configured: Generation, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paywall's invoices are those of a dev node of this configuration; the options that pay them."""
    clock, lightning = SystemClock(), Lightning("dev", development=True)
    payments = Payments(secret=SECRET, lightning=lightning)
    made = dataclasses.replace(configured, payments=payments)
    monkeypatch.setattr(opening, "load_generation", lambda path: made)
    monkeypatch.setattr(opening, "CLOCK", clock)
    node = DevNode(lightning, DerivedKeys(SECRET), made.state, clock)

    def invoice(msat: int) -> tuple[str, str]:
        new = asyncio.run(node.create_invoice(msat=msat, memo="inference", seconds=300))
        return new.payment_hash, new.bolt11

    wall.node = invoice
    return ["--dev", "--config", str(tmp_path / "config.yaml")]


# -- each rail


def test_every_step_of_a_lightning_payment_is_shown(wall: Paywall, pay: Pay, in_development: list[str]) -> None:
    """From the request to what it cost; the answer alone is on standard output."""
    result = pay(*asking(wall, *in_development))
    assert (result.exit_code, result.stdout) == (0, TEXT + "\n"), result.stderr
    for words in ("POST /v1/chat/completions", "402: 4 ways to pay", "21 sats by l402", "paid 21 sats by l402"):
        assert words in result.stderr
    for rail in ("l402", "mpp", "x402", "cashu"):
        assert f"│ {rail}" in result.stderr
    assert wall.paid()[0].headers["authorization"].startswith("L402 ")


def test_the_other_lightning_scheme_is_paid_on_demand(wall: Paywall, pay: Pay, in_development: list[str]) -> None:
    """--rail mpp; the receipt's reference is told."""
    result = pay(*asking(wall, *in_development, "--rail", "mpp", "--json"))
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["answer"], told["rail"], len(told["reference"])) == (TEXT, "mpp", 64)


def test_usdc_is_signed_for_and_its_transaction_told(wall: Paywall, pay: Pay) -> None:
    """By a key in the environment, which is said nowhere."""
    result = pay(*asking(wall), TOLLWAY_PAY_KEY=KEY)
    assert (result.exit_code, result.stdout) == (0, TEXT + "\n"), result.stderr
    assert wall.payers == [Account.from_key(KEY).address]
    assert "paid $0.000305 by x402" in result.stderr
    assert "transaction 0xabab" in result.stderr
    assert KEY[2:] not in result.output


def test_change_of_an_ecash_payment_is_given_to_its_payer(wall: Paywall, pay: Pay) -> None:
    """The token that paid is not repeated, the change is told whole: it is money."""
    token = ecash(64)
    result = pay(*asking(wall, "--cashu", token))
    assert result.exit_code == 0, result.stderr
    assert "43 sats came back as ecash" in result.stderr
    assert wall.change in result.stderr
    assert token not in result.output


def test_a_balance_pays_after_its_price_was_asked(wall: Paywall, pay: Pay) -> None:
    """No invoice is made for it: the estimate costs nothing."""
    result = pay(*asking(wall), TOLLWAY_PAY_BALANCE=BALANCE)
    assert (result.exit_code, result.stdout) == (0, TEXT + "\n"), result.stderr
    assert [one.path for one in wall.seen] == ["/v1/estimate-cost", "/v1/chat/completions", "/v1/balance"]
    assert "979 sats left" in result.stderr
    assert BALANCE not in result.output


def test_a_stream_is_shown_as_it_comes(wall: Paywall, pay: Pay) -> None:
    """Heartbeats are no text."""
    result = pay(*asking(wall, "--stream"), TOLLWAY_PAY_KEY=KEY)
    assert (result.exit_code, result.stdout) == (0, TEXT.replace(" ", "") + "\n"), result.stderr


def test_an_invoice_is_paid_by_hand(wall: Paywall, pay: Pay) -> None:
    """It is shown; the proxy tells the preimage once somebody has paid."""
    wall.paid_by_others = True
    result = pay(*asking(wall, "--by-hand"))
    assert (result.exit_code, result.stdout) == (0, TEXT + "\n"), result.stderr
    assert next(iter(wall.invoices.values())) in result.stderr


def test_an_invoice_paid_after_its_payer_gave_up_waiting_is_not_lost(
    wall: Paywall, pay: Pay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written down before it is shown, and asked about again."""

    async def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(payer.asyncio, "sleep", interrupt)
        assert pay(*asking(wall, "--by-hand")).exit_code != 0
    assert (len(kept(tmp_path)), wall.paid()) == (1, [])
    wall.paid_invoices.update(wall.invoices)
    result = pay("retry")
    assert (result.exit_code, result.stdout, kept(tmp_path)) == (0, TEXT + "\n", []), result.stderr


def test_an_invoice_that_nobody_pays_is_struck_out(
    wall: Paywall, pay: Pay, tmp_path: Path, no_waiting: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it has ended; it is asked about for as long as it can be paid, and once more."""

    class Later(SystemClock):
        def now_ms(self) -> int:
            return super().now_ms() + int(sum(no_waiting) * 1000)

    monkeypatch.setattr(opening, "CLOCK", Later())
    wall.expiry_seconds = 20
    result = pay(*asking(wall, "--by-hand"))
    assert (result.exit_code, "was not paid" in result.stderr, kept(tmp_path)) == (1, True, [])
    assert 9 <= len(no_waiting) <= 12


def test_without_a_wallet_the_offers_are_shown(wall: Paywall, pay: Pay) -> None:
    """And what could pay them; exit 1."""
    result = pay(*asking(wall))
    assert (result.exit_code, "Say what pays" in result.stderr, "│ x402" in result.stderr) == (1, True, True)


def test_an_estimate_pays_nothing(wall: Paywall, pay: Pay) -> None:
    """One call, for people and for programs."""
    assert pay(*asking(wall, "--estimate")).stdout == "gpt-4o: at most 21 sats, $0.000305\n"
    assert json.loads(pay(*asking(wall, "--estimate", "--json")).stdout)["costSats"] == 21
    assert {one.path for one in wall.seen} == {"/v1/estimate-cost"}


def test_what_auto_was_routed_to_is_what_is_paid_for(wall: Paywall, pay: Pay) -> None:
    """The router may choose otherwise the second time."""
    wall.route_model = "gpt-4o-mini"
    assert pay("--url", wall.url, "Hello", TOLLWAY_PAY_KEY=KEY).exit_code == 0
    assert [one.body["model"] for one in wall.seen] == ["auto", "gpt-4o-mini"]


def test_what_costs_nothing_is_not_paid_for(wall: Paywall, pay: Pay) -> None:
    """An open model answers at once."""
    wall.before = [(200, {}, b'{"choices":[{"message":{"content":"free"}}]}')]
    result = pay(*asking(wall), TOLLWAY_PAY_KEY=KEY)
    assert (result.exit_code, result.stdout, len(wall.seen)) == (0, "free\n", 1)


def test_dev_pays_nothing_where_no_proxy_has_made_an_invoice(wall: Paywall, pay: Pay, configured: Generation) -> None:
    """It reads the secret of the state folder, and makes none."""
    result = pay(*asking(wall, "--dev", "--config", str(configured.root / "config.yaml")))
    assert (result.exit_code, "backend: dev" in result.stderr, configured.state.exists()) == (2, True, False)


# -- limits


@pytest.mark.parametrize(
    ("fields", "options", "variables"),
    [
        ({"atomic": 250_001}, [], {"TOLLWAY_PAY_KEY": KEY}),
        ({"atomic": 305}, ["--max-usd", "0.000304"], {"TOLLWAY_PAY_KEY": KEY}),
        ({"sats": 501}, ["--by-hand"], {}),
        ({"invoice_msat": 500_001}, ["--by-hand"], {}),
        ({}, ["--max-sats", "20", "--cashu", ecash(21)], {}),
        ({}, ["--cashu", ecash(512)], {}),
        ({"sats": 501}, [], {"TOLLWAY_PAY_BALANCE": BALANCE}),
    ],
    ids=["usdc", "usdc_option", "invoice", "invoice_says_more", "ecash", "ecash_token_too_large", "balance"],
)
def test_more_than_is_allowed_is_never_paid(
    wall: Paywall, pay: Pay, fields: dict[str, int], options: list[str], variables: dict[str, str], tmp_path: Path
) -> None:
    """Nothing that pays leaves this machine; the option that allows it is named."""
    for name, value in fields.items():
        setattr(wall, name, value)
    result = pay(*asking(wall, *options), **variables)
    assert (result.exit_code, wall.paid(), kept(tmp_path)) == (1, [], [])
    assert "--max-" in result.stderr


def test_an_unknown_token_is_not_signed_for(wall: Paywall, pay: Pay) -> None:
    """Nobody knows what an amount of it is worth, unless --asset says so."""
    wall.asset = "0x" + "12" * 20
    refused = pay(*asking(wall), TOLLWAY_PAY_KEY=KEY)
    assert (refused.exit_code, wall.paid(), "--asset" in refused.stderr) == (1, [], True)

    allowed = pay(*asking(wall, "--asset", f"eip155:8453/{wall.asset}"), TOLLWAY_PAY_KEY=KEY)
    assert allowed.exit_code == 0, allowed.stderr


def test_money_is_not_sent_over_http_to_another_machine(pay: Pay) -> None:
    """Unless it is allowed by name."""
    result = pay("--url", "http://tollway.example:8402", "Hello", TOLLWAY_PAY_KEY=KEY)
    assert (result.exit_code, "--allow-http" in result.stderr) == (2, True)


@pytest.mark.parametrize("option", ["--evm-key", "--balance"])
def test_a_secret_on_the_command_line_is_refused(wall: Paywall, pay: Pay, option: str) -> None:
    """And not repeated."""
    result = pay(*asking(wall, option, KEY))
    assert (result.exit_code, "env:NAME or file:PATH" in result.stderr, KEY in result.output) == (2, True, False)
    assert wall.seen == []


def test_a_key_in_a_file_pays(wall: Paywall, pay: Pay, tmp_path: Path) -> None:
    """file:PATH."""
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    assert pay(*asking(wall, "--evm-key", f"file:{path}")).exit_code == 0


def test_a_wrong_key_is_not_repeated(wall: Paywall, pay: Pay) -> None:
    """What is wrong with it is said."""
    result = pay(*asking(wall), TOLLWAY_PAY_KEY=KEY + "42")
    assert (result.exit_code, "64 hex digits" in result.stderr, KEY in result.output) == (2, True, False)


def test_ecash_of_another_mint_stays_at_home(wall: Paywall, pay: Pay) -> None:
    """As does a stream that it cannot pay for."""
    other = pay(*asking(wall, "--cashu", ecash(64, "https://other.example")))
    assert (other.exit_code, "https://mint.example" in other.stderr, wall.paid()) == (1, True, [])
    streamed = pay(*asking(wall, "--cashu", ecash(64), "--stream"))
    assert (streamed.exit_code, "--stream" in streamed.stderr, wall.paid()) == (1, True, [])


# -- what goes wrong


def test_a_busy_proxy_is_shown_the_same_payment_again(
    wall: Paywall, pay: Pay, no_waiting: list[float], tmp_path: Path
) -> None:
    """As long as it says, and never another one."""
    wall.first = [failing(503, "payment_unknown", Retry_After="7"), failing(409, "payment_under_way")]
    result = pay(*asking(wall), TOLLWAY_PAY_KEY=KEY)
    assert (result.exit_code, no_waiting, kept(tmp_path)) == (0, [7.0, 2.0], [])
    assert len({one.credential for one in wall.paid()}) == 1


def test_a_payment_that_bought_nothing_is_kept_for_its_owner_alone(
    wall: Paywall, pay: Pay, in_development: list[str], tmp_path: Path
) -> None:
    """It can be shown again or refunded; what shows it is in the file, and nowhere else."""
    wall.first = [failing(502, "upstream_error")] * payer.TRIES_MAX
    result = pay(*asking(wall, *in_development))
    assert (result.exit_code, len(wall.paid())) == (1, payer.TRIES_MAX)
    assert "tollway pay refund 1" in result.stderr
    path = tmp_path / "kept.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (shown,) = kept(tmp_path)[0]["headers"]  # type: ignore[misc]
    assert shown[1] == wall.paid()[0].headers["authorization"]
    assert shown[1] not in result.output

    assert "21 sats by l402" in pay("status", "--url", wall.url).stdout
    again = pay("retry", "1")
    assert (again.exit_code, again.stdout, kept(tmp_path)) == (0, TEXT + "\n", []), again.stderr
    assert wall.paid()[-1].body == wall.seen[0].body


def test_a_payment_that_bought_nothing_is_refunded_to_a_balance(
    wall: Paywall, pay: Pay, in_development: list[str], tmp_path: Path
) -> None:
    """The token is told; the payment is struck out."""
    wall.first = [failing(502, "upstream_error")] * payer.TRIES_MAX
    pay(*asking(wall, *in_development))
    result = pay("refund")
    assert (result.exit_code, result.stdout, kept(tmp_path)) == (0, BALANCE + "\n", [])
    assert wall.seen[-1].path == "/v1/payments/refund"
    assert wall.seen[-1].credential == wall.paid()[0].credential
    assert (pay("refund").exit_code, "No such payment" in pay("refund").stderr) == (2, True)


def test_what_a_proxy_refuses_to_take_is_not_kept(wall: Paywall, pay: Pay, tmp_path: Path) -> None:
    """A refused authorization moved nothing; its reason is told."""
    wall.first = [failing(402, "x402_settlement_failed")]
    result = pay(*asking(wall), TOLLWAY_PAY_KEY=KEY)
    assert (result.exit_code, "402 x402_settlement_failed" in result.stderr, kept(tmp_path)) == (1, True, [])


def test_ecash_that_comes_back_with_an_error_is_told(wall: Paywall, pay: Pay, tmp_path: Path) -> None:
    """It is the payer's money, and not tried again."""
    back = ecash(63)
    wall.first = [failing(502, "upstream_error", X_Cashu_Change=back)]
    result = pay(*asking(wall, "--cashu", ecash(64)))
    assert (result.exit_code, back in result.stderr, len(wall.paid()), kept(tmp_path)) == (1, True, 1, [])


def test_a_lost_answer_keeps_the_payment(wall: Paywall, pay: Pay, tmp_path: Path) -> None:
    """Whether it arrived is not known: it is kept, not paid again."""
    wall.first = [(0, {}, b"")]
    result = pay(*asking(wall), TOLLWAY_PAY_KEY=KEY)
    assert (result.exit_code, len(wall.paid()), len(kept(tmp_path))) == (1, 1, 1)
    assert "tollway pay retry 1" in result.stderr


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (failing(404, "model_not_available"), "404 model_not_available: what to do next"),
        (failing(429, "rate_limited"), "429 rate_limited"),
        ((402, {}, b'{"error": {"code": "quota_exhausted", "message": "Top up."}}'), "402 quota_exhausted: Top up."),
        ((402, {}, b"not json"), "402: no reason was given"),
        ((402, {"Payment-Required": "%%%"}, b"{}"), "no JSON in base64"),
        ((402, {"WWW-Authenticate": 'L402 macaroon="AAAA", invoice="lnbc1nothing"'}, b"{}"), "cannot be read"),
        ((402, {"X-Cashu": "creqAoops"}, b"{}"), "cannot be decoded"),
        ((302, {"Location": "https://elsewhere.example"}, b""), "302"),
    ],
    ids=["404", "429", "402_of_an_account", "no_json", "x402", "l402", "cashu", "redirect"],
)
def test_a_wrong_answer_is_told_and_nothing_is_paid(
    wall: Paywall, pay: Pay, answer: tuple[int, dict[str, str], bytes], words: str
) -> None:
    """In one line, without a traceback."""
    wall.before = [answer]
    result = pay(*asking(wall), TOLLWAY_PAY_KEY=KEY)
    assert (result.exit_code, wall.paid()) == (1, [])
    assert words in result.stderr


def test_what_a_proxy_says_is_not_obeyed_by_the_terminal(wall: Paywall, pay: Pay) -> None:
    """Neither in an error nor in an offer, which may hold escape sequences or the terminal library's markup."""
    wall.before = [(404, {}, json.dumps({"error": {"message": "gone\x1b[2J", "code": "x"}}).encode())]
    assert "\x1b[2J" not in pay(*asking(wall), TOLLWAY_PAY_KEY=KEY).output
    wall.mint = "https://mint.example/\x1b[2J[bold]"
    shown = pay(*asking(wall)).stderr
    assert ("\x1b[2J" in shown, "[bold]" in shown) == (False, True)


@pytest.mark.parametrize(
    "url", ["ftp://x", "http://", "http://127.0.0.1:99999", "https://user@x", "http://[::1", "https://é"]
)
def test_what_is_no_address_is_told(pay: Pay, url: str) -> None:
    """Before anything is asked."""
    result = pay("--url", url, "Hello", TOLLWAY_PAY_KEY=KEY)
    assert (result.exit_code, "--url" in result.stderr) == (2, True)


def test_errors_are_told_to_programs_as_json(wall: Paywall, pay: Pay) -> None:
    """With the steps that led there."""
    wall.before = [failing(404, "model_not_available")]
    told = json.loads(pay(*asking(wall, "--json"), TOLLWAY_PAY_KEY=KEY).stdout)
    assert ("model_not_available" in told["error"], told["steps"][0]["step"]) == (True, "request")


def test_nobody_there_is_told(pay: Pay) -> None:
    """With the address."""
    result = pay("--url", "http://127.0.0.1:9", "Hello", TOLLWAY_PAY_KEY=KEY)
    assert (result.exit_code, "http://127.0.0.1:9 cannot be reached" in result.stderr) == (1, True)


def test_two_things_that_pay_are_one_too_many(wall: Paywall, pay: Pay) -> None:
    """Named by options, or lying about in the environment."""
    named = pay(*asking(wall, "--by-hand", "--cashu", ecash(64)))
    assert (named.exit_code, "one thing that pays" in named.stderr) == (2, True)
    lying = pay(*asking(wall), TOLLWAY_PAY_KEY=KEY, TOLLWAY_PAY_BALANCE=BALANCE)
    assert (lying.exit_code, "say which with --rail" in lying.stderr) == (2, True)
    assert pay(*asking(wall, "--rail", "x402"), TOLLWAY_PAY_KEY=KEY, TOLLWAY_PAY_BALANCE=BALANCE).exit_code == 0


def test_payments_that_cannot_be_kept_are_not_made(wall: Paywall, tmp_path: Path) -> None:
    """Fail closed: before anything is signed."""
    (tmp_path / "file").write_text("")
    arguments = ["pay", *asking(wall), "--kept", str(tmp_path / "file" / "kept.json")]
    result = CliRunner().invoke(app, arguments, env={"TOLLWAY_PAY_KEY": KEY})
    assert (result.exit_code, wall.paid(), "--kept" in result.stderr) == (1, [], True)


# -- balances


def test_a_balance_is_bought_with_an_invoice(
    wall: Paywall, pay: Pay, in_development: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its token on standard output, how to use it beside it; the poll secret is shown to the proxy alone."""
    wall.paid_by_others = True
    wall.node = None
    result = pay("balance", "--sats", "1000", "--url", wall.url, "--by-hand")
    assert (result.exit_code, result.stdout, kept(tmp_path)) == (0, BALANCE + "\n", []), result.stderr
    assert "OPENAI_API_KEY=bal_" in result.stderr
    assert "p" * 43 not in result.output
    assert wall.seen[-1].body["poll_secret"] == "p" * 43


@pytest.mark.parametrize("options", [["--cashu", ecash(1024)], []], ids=["cashu", "usdc"])
def test_a_balance_is_bought_at_once_by_other_rails(wall: Paywall, pay: Pay, options: list[str]) -> None:
    """The offer's own payment; the token comes with the answer."""
    variables = {} if options else {"TOLLWAY_PAY_KEY": KEY}
    result = pay("balance", "--sats", "1024", "--url", wall.url, *options, **variables)
    assert (result.exit_code, result.stdout) == (0, BALANCE + "\n"), result.stderr


def test_a_balance_is_topped_up(wall: Paywall, pay: Pay) -> None:
    """Both the balance's token and the payment are shown."""
    arguments = ["balance", "--sats", "500", "--top-up", "--url", wall.url, "--by-hand"]
    wall.paid_by_others = True
    result = pay(*arguments, TOLLWAY_PAY_BALANCE=BALANCE)
    assert result.exit_code == 0, result.stderr
    assert all(one.headers["authorization"] == f"Bearer {BALANCE}" for one in wall.seen)


def test_an_invoice_over_another_amount_is_not_paid(wall: Paywall, pay: Pay, tmp_path: Path) -> None:
    """Whatever the page around it says."""
    wall.invoice_msat = 1_001_000
    result = pay("balance", "--sats", "1000", "--url", wall.url, "--by-hand")
    assert (result.exit_code, "not over the 1000 sats" in result.stderr, kept(tmp_path)) == (1, True, [])


def test_status_tells_what_is_left(wall: Paywall, pay: Pay) -> None:
    """Of the balance in the environment."""
    assert pay("status", "--url", wall.url, TOLLWAY_PAY_BALANCE=BALANCE).stdout == "1000 sats left.\n"
    assert pay("status", "--url", wall.url).stdout == "No balance is named (--balance).\n"
    wrong = pay("status", "--url", wall.url, TOLLWAY_PAY_BALANCE="bal_" + "B" * 43)
    assert (wrong.exit_code, "invalid_balance" in wrong.stderr) == (1, True)
