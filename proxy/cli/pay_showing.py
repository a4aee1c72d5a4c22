"""How a payment is shown: its steps on standard error, what was bought on standard output."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from proxy.cli import opening

if TYPE_CHECKING:
    from proxy.payments.client.answers import Answer
    from proxy.payments.client.balances import Bought
    from proxy.payments.client.payer import Step


_MARKS: Final = {"request": "->", "paid_request": "->", "offers": "<-", "answer": "<-", "change": "<-"}


def printable(text: str) -> str:
    """What others say, without what a terminal would obey."""
    return "".join([one if one.isprintable() or one in "\n\t" else "\N{REPLACEMENT CHARACTER}" for one in text])


class Shown:
    """For people as it happens, or for programs at the end."""

    def __init__(self, *, json: bool) -> None:
        self.json = json
        self.steps: list[dict[str, Any]] = []
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._open = False

    def step(self, step: Step) -> None:
        """One step of the way. Change is money of the payer's: it is always told whole."""
        self.steps.append({"step": step.kind, "text": step.text, **step.facts})
        if self.json:
            return
        self._end_line()
        self._console.print(f"{_MARKS.get(step.kind, '  ')} {step.text}", markup=False)
        if step.offers:
            table = Table("rail", "price", "what")
            for offer in step.offers:
                table.add_row(offer.rail, str(offer.amount), escape(printable(offer.detail)))
            self._console.print(table)
        if step.kind == "change":
            self._console.print(f"   keep it: {step.facts['token']}", markup=False)

    def text(self, text: str) -> None:
        """A piece of the answer."""
        if not self.json:
            typer.echo(printable(text) if sys.stdout.isatty() else text, nl=False)
            self._open = True

    def invoice(self, text: str) -> None:
        """To be paid by hand."""
        self._console.print(f"   pay this invoice:\n{text}", markup=False)

    def answer(self, answer: Answer, left: str | None) -> None:
        """What was bought, and what it cost."""
        paid = None if answer.paid is None else {"rail": answer.rail, **answer.paid.plain()}
        receipt = answer.receipt
        if self.json:
            opening.print_json(
                {
                    "answer": answer.text,
                    "model": answer.model,
                    "finish_reason": answer.finish_reason,
                    "usage": answer.usage,
                    "paid": paid,
                    "rail": answer.rail or None,
                    "transaction": receipt.transaction or None,
                    "reference": receipt.reference or None,
                    "change": {"sats": receipt.change_sats, "token": receipt.change} if receipt.change else None,
                    "balance_left": left,
                    "payment_id": answer.payment_id or None,
                    "request_id": answer.request_id or None,
                    "steps": self.steps,
                }
            )
            return
        self._end_line()
        for line in cost_lines(answer, left):
            self._console.print(printable(line), markup=False)

    def bought(self, bought: Bought, url: str) -> None:
        """A balance, and how it is used."""
        if self.json:
            fields = {"token": bought.token or None, "ecash": bought.ecash or None, **bought.told, "steps": self.steps}
            opening.print_json(fields)
            return
        if bought.ecash:
            typer.echo(bought.ecash)
            self._console.print("It came back as ecash. Keep it: whoever has it can spend it.")
        if not bought.token:
            return
        typer.echo(bought.token)
        self._console.print("Keep it: whoever has it can spend it. Any OpenAI client takes it as a key:\n")
        self._console.print(f"  export OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY={bought.token[:8]}...", markup=False)
        self._console.print(f"  export TOLLWAY_PAY_BALANCE={bought.token[:8]}...   # for tollway pay", markup=False)

    def _end_line(self) -> None:
        if self._open:
            typer.echo("")
            self._open = False


def cost_lines(answer: Answer, left: str | None) -> list[str]:
    """What it cost, in words."""
    lines, receipt = [], answer.receipt
    if answer.paid is not None:
        back = f", {receipt.change_sats} sats of the token came back" if receipt.change else ""
        name = f" ({answer.payment_id})" if answer.payment_id else ""
        lines.append(f"paid {answer.paid} by {answer.rail}{name}{back}")
    if receipt.transaction:
        lines.append(f"transaction {receipt.transaction}")
    if receipt.reference:
        lines.append(f"receipt {receipt.reference}")
    if left is not None:
        lines.append(f"paid from the balance: {left} left")
    return [f"   {line}" for line in lines]
