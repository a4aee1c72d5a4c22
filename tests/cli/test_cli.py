"""The command line as a whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
from typer.testing import CliRunner

from proxy import __version__, shipped
from proxy.cli import app
from proxy.cli.serve import greeting
from proxy.config.load import POLICIES, load_generation

RUNNER = CliRunner()
CONFIG = shipped.folder() / "config.yaml"
ADDRESSES = {"api": ("0.0.0.0", 1), "capture": ("::1", 2), "admin": ("127.0.0.1", 3)}


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    """A shell's completion may call it at each keystroke."""
    code = (
        "import sys\nfrom proxy.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(','.join(m for m in ('mitmproxy', 'aiohttp', 'fastapi', 'tiktoken', 'uvloop') if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=shipped.folder(), timeout=30
    )
    *help_lines, heavy = done.stdout.splitlines()
    assert heavy == ""
    words = {line.split()[0] for line in help_lines if line.startswith("  ") and line.split()}
    assert {"init", "serve", "check", "schema", "models", "keys", "teams", "spend", "ledger", "ca"} <= words


def test_version() -> None:
    """One line."""
    assert RUNNER.invoke(app, ["--version"]).output == f"tollway {__version__}\n"


def test_schema_prints_all_files_or_one() -> None:
    """With the settings of the plugins that ship; a typing error gets a hint."""
    everything = orjson.loads(RUNNER.invoke(app, ["schema"]).output)
    assert set(everything) == {"config.yaml", *POLICIES}
    link = everything["config.yaml"]["properties"]["chain"]["items"]["anyOf"][1]
    assert "key_prefix" in link["properties"]["identity"]["anyOf"][0]["properties"]
    one = orjson.loads(RUNNER.invoke(app, ["schema", "policies/models.yaml"]).output)
    assert one == everything["models.yaml"]
    wrong = RUNNER.invoke(app, ["schema", "model.yaml"])
    assert wrong.exit_code == 2
    assert "Did you mean 'models.yaml'?" in wrong.output


def test_ca_path_and_export(tmp_path: Path) -> None:
    """The certificate only, once there is one."""
    RUNNER.invoke(app, ["init", str(tmp_path)])
    option = ["--config", str(tmp_path / "config.yaml")]
    early = RUNNER.invoke(app, ["ca", "path", *option])
    assert early.exit_code == 2
    assert "the first 'tollway serve' makes it" in early.output
    certificate = load_generation(tmp_path / "config.yaml", environment={}).ca_certificate
    certificate.parent.mkdir(parents=True)
    certificate.write_text("-----BEGIN CERTIFICATE-----\n")
    assert RUNNER.invoke(app, ["ca", "path", *option]).output == f"{certificate}\n"
    assert RUNNER.invoke(app, ["ca", "export", *option]).output == "-----BEGIN CERTIFICATE-----\n"
    copy = tmp_path / "copy.pem"
    assert RUNNER.invoke(app, ["ca", "export", "--output", str(copy), *option]).exit_code == 0
    assert copy.read_text() == certificate.read_text()


def test_the_greeting_says_where_to_go_and_what_to_do_next() -> None:
    """With the bound ports, an address that can be reached, and commands that make a key."""
    generation = load_generation(CONFIG, environment={"OPENAI_API_KEY": "sk-secret"})
    text = "\n".join(greeting(generation, ADDRESSES, Path("etc/config.yaml")))
    assert "http://127.0.0.1:1/v1" in text
    assert "HTTPS_PROXY=http://[::1]:2" in text
    assert "http://127.0.0.1:3/metrics" in text
    assert '"model": "demo"' in text
    assert "tollway keys create --user me --config etc/config.yaml" in text
    assert "sk-secret" not in text


def test_without_keys_the_greeting_names_what_waits() -> None:
    """And offers no key for nothing."""
    text = "\n".join(greeting(load_generation(CONFIG, environment={}), ADDRESSES, Path("config.yaml")))
    assert "wait for a provider's key" in text
    assert "keys create" not in text


def test_serve_refuses_a_wrong_configuration_before_anything_starts(tmp_path: Path) -> None:
    """Exit 1 with the problem's place, nothing written."""
    RUNNER.invoke(app, ["init", str(tmp_path)])
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace("kind: admin", "kind: admn"))
    result = RUNNER.invoke(app, ["serve", "--config", str(config)])
    assert result.exit_code == 1
    assert f"{config}:" in result.output
    assert not (tmp_path / "var").exists()
