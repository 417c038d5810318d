"""The scripts in .github/workflows, run here as GitHub would; `make lint` checks the files' form and their safety."""

import os
import shutil
import subprocess

import pytest
import yaml
from harness.project import ROOT, STAGES, install, stages_run

WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yml")}
MADE_BY_CI_TOO = {"make lint", "make test"}  # .ci/run calls them; here it would call this test again


def scripts(name):
    """Return the scripts of a workflow's jobs by the names of their steps."""
    steps = [step for job in WORKFLOWS[name]["jobs"].values() for step in job["steps"]]
    return {step["name"]: step["run"] for step in steps if "run" in step}


def run(script, folder, environment, code=0):
    """Run a step's script as GitHub does, and check its exit code; return what it printed."""
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, text=True)
    printed = done.stdout + done.stderr
    assert done.returncode == code, printed
    return printed


def test_what_runs_code_may_read_only_and_the_check_knows_no_secret():
    assert WORKFLOWS["check"]["permissions"] == {"contents": "read"}
    assert "permissions" not in WORKFLOWS["check"]["jobs"]["check"]
    assert WORKFLOWS["comment"]["permissions"] == WORKFLOWS["weekly"]["permissions"] == {}
    assert WORKFLOWS["comment"]["jobs"]["comment"]["permissions"] == {"actions": "read", "pull-requests": "write"}
    reproduce, attest = WORKFLOWS["weekly"]["jobs"].values()
    assert reproduce["permissions"] == {"contents": "read"}
    assert not any("run" in step or "checkout" in step["uses"] for step in attest["steps"])  # it may sign: no code runs
    assert "secrets." not in (ROOT / ".github/workflows/check.yml").read_text()


# --- check ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_check_reproduces_what_is_stale_and_reports(project, tmp_path):
    install(project)
    summary = tmp_path / "summary"
    environment = {**project.environment, "GITHUB_STEP_SUMMARY": str(summary), "BASE": "main"}
    steps = scripts("check")
    assert set(steps.values()) > MADE_BY_CI_TOO
    project.succeed("git", "checkout", "--quiet", "-b", "slow")
    project.set_param("train.lr", 1e-9)
    project.succeed("git", "commit", "--all", "--quiet", "--message", "Learn nothing, and forget to run it")
    gate, reproduce, report, unchanged = (script for script in steps.values() if script not in MADE_BY_CI_TOO)
    assert "params.yaml: train.lr modified" in run(gate, project.folder, environment, code=2)
    printed = run(reproduce, project.folder, environment)
    assert "Stage 'pair' didn't change, skipping" in printed
    assert "Running stage 'train'" in printed
    run(report, project.folder, environment)
    assert summary.read_text().startswith("## Worse\n")
    assert "![" not in summary.read_text()  # a summary has no room for files
    assert (project.folder / "report/images.png").exists()
    run(unchanged, project.folder, environment, code=1)  # what was committed is not what comes out
    project.succeed("git", "add", "--all")
    project.succeed("git", "commit", "--quiet", "--message", "Run it")
    for script in (gate, unchanged):
        run(script, project.folder, environment)
    run(report, project.folder, environment | {"BASE": "0" * 40})  # the push that began a branch
    assert "There is no report" in summary.read_text()


@pytest.mark.slow
def test_the_check_goes_on_without_a_remote_that_cannot_be_read(project):
    install(project)
    project.succeed("dvc", "remote", "add", "--default", "storage", "/nowhere/at/all")
    script = next(script for script in scripts("check").values() if "dvc pull" in script)
    for folder in (".dvc/cache", "data", "models"):
        shutil.rmtree(project.folder / folder)
    printed = run(script, project.folder, project.environment)
    assert "not all could be pulled: the rest is reproduced" in printed
    assert stages_run(printed) == STAGES


# --- comment -------------------------------------------------------------------------------------------------------

GH = """#!/usr/bin/env bash
# Stands for GitHub's command: notes what it is called with, and says what the test wants of it.
printf '%s\\n' "$*" >> calls
case "$*" in
    *"/pulls "*) printf '%s' "$NUMBERS" ;;
    *"/comments --jq"*) printf '%s' "$COMMENTS" ;;
    *"body=@comment.md"*) cp comment.md posted ;;
esac
"""


@pytest.fixture
def post(tmp_path, monkeypatch):
    """Return a function that runs the comment's script on a report; it returns the calls to GitHub, and the post."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gh").write_text(GH)
    (tmp_path / "bin/gh").chmod(0o755)
    (tmp_path / "report").mkdir()

    def give(report, numbers="12\n", comments="", branch="topic"):
        if report is not None:
            (tmp_path / "report/summary.md").write_text(report)
        environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "NUMBERS": numbers, "COMMENTS": comments}
        environment |= {"REPOSITORY": "team/digitsum", "OWNER": "fork", "BRANCH": branch, "COMMIT": "abc"}
        (script,) = scripts("comment").values()
        run(script, tmp_path, environment | {"RUN": "https://example.invalid/run"})
        posted = tmp_path / "posted"
        return (tmp_path / "calls").read_text(), posted.read_text() if posted.exists() else None

    return give


def test_a_first_report_becomes_a_comment_of_the_pull_request_that_github_names(post):
    calls, posted = post("## Worse\n")
    assert "repos/team/digitsum/pulls --raw-field head=fork:topic" in calls
    assert "--method POST repos/team/digitsum/issues/12/comments" in calls
    assert posted.startswith("<!-- digitsum report -->\n## Worse\n")
    assert "https://example.invalid/run" in posted


def test_a_later_report_takes_the_place_of_the_first(post):
    calls, _ = post("## Better\n", comments="345\n678\n")
    assert "--method PATCH repos/team/digitsum/issues/comments/345 " in calls
    assert "POST" not in calls


@pytest.mark.parametrize("numbers", ["", "12\n13\n", "12; touch hacked"])
def test_nothing_is_posted_unless_one_pull_request_is_named(post, numbers):
    calls, posted = post("## Worse\n", numbers=numbers)
    assert posted is None
    assert "POST" not in calls


def test_a_report_is_data(post, tmp_path):
    hostile = "$(touch hacked) `touch hacked` @everyone </details>"
    _, posted = post(hostile, branch="$(touch hacked)")
    assert "$(touch hacked) `touch hacked` @\u200beveryone" in posted
    assert not list(tmp_path.rglob("hacked"))


@pytest.mark.parametrize("linked", [True, False])
def test_a_link_in_place_of_a_report_is_not_followed(post, tmp_path, linked):
    (tmp_path / "secret").write_text("the token")
    if linked:
        (tmp_path / "report/summary.md").symlink_to(tmp_path / "secret")
    calls, posted = post(None)
    assert posted is None
    assert "POST" not in calls


def test_a_report_that_is_too_long_is_not_posted(post):
    _, posted = post("x" * 70_000)
    assert len(posted) < 1_000
    assert "larger than a comment may be" in posted
