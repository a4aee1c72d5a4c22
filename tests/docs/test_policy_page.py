"""The policy and the table of verdicts that docs/policy.md shows hold as they stand there."""

from __future__ import annotations

import json
import re
from pathlib import Path

from typer.testing import CliRunner

from proxy import shipped
from proxy.cli.policy import app

PAGE = (Path(__file__).parents[2] / "docs" / "policy.md").read_text()


def test_the_pages_table_holds_for_the_pages_policy(tmp_path: Path) -> None:
    """Beside the files that ship; each case judges something."""
    for name in shipped.FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((shipped.folder() / name).read_text().replace("team: default", "team: research"))
    teams, cases = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "policies" / "teams.yaml").write_text(teams)
    (tmp_path / "cases.yaml").write_text(cases)

    result = CliRunner().invoke(
        app, ["test", str(tmp_path / "cases.yaml"), "--config", str(tmp_path / "config.yaml"), "--json"]
    )

    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert len(found["cases"]) == 8
    assert {case["judgement"]["verdict"] for case in found["cases"]} == {
        "allow", "policy_denied", "model_not_allowed", "content_refused",
    }  # fmt: skip
