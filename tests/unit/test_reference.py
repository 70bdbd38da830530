"""docs/recipes.md and docs/commands.md say what the program does; every flag of `train` has its variable."""

import re

import pytest

from job.cli import cli
from job.core.recipe import ALSO_CALLED, KEYS
from tests.support.commands import alexnet
from tools.reference import DOCUMENTS, contexts, docstrings, drawn


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_document_is_what_the_source_says(document):
    text = document.read_text(encoding="utf-8")
    assert drawn(text) == text, "run `python -m tools.reference`"


def test_every_key_says_what_it_does():
    assert set(docstrings()) == set(KEYS)
    assert set(ALSO_CALLED.values()) < set(KEYS)
    assert not set(ALSO_CALLED) & set(KEYS)


def test_every_option_says_what_it_does():
    found = list(contexts(cli.make_context("alexnet", [], resilient_parsing=True)))
    assert len(found) > 10
    for context in found:
        assert context.command.help, context.command_path
        assert [o.opts[0] for o in context.command.params if o.param_type_name == "option" and not o.help] == [], context.command_path


def test_every_flag_of_train_has_its_variable():
    help_ = " ".join(alexnet("train", "--help").stdout.split())
    for option in cli.get_command(cli.make_context("alexnet", [], resilient_parsing=True), "train").params:
        name = "KEY" if option.name == "pairs" else option.name.upper()
        assert f"env var: ALEXNET_{name}" in help_, option.name


@pytest.mark.parametrize(("name", "value"), [("ALEXNET_DRY_RUN", "1"), ("ALEXNET_DRY_RUN", "true")])
def test_a_flag_by_its_variable(name, value):
    assert 'name = "digits"' in alexnet("train", **{name: value, "ALEXNET_RECIPE": "digits"}).stdout


def test_variables_for_the_record_are_no_mistakes_and_misspelt_ones_are():
    known = {"ALEXNET_NODE": "n", "ALEXNET_REVISION": "r", "ALEXNET_CHECKPOINT_MINUTES": "3", "ALEXNET_LEARNING_RATE": "0.1"}
    assert alexnet("train", "--dry-run", **known).stderr == ""
    said = alexnet("train", "--dry-run", ALEXNET_CHECKPOINT_MINUTE="3", ALEXNET_PORT="tcp://10.0.0.1:80").stderr
    assert "ALEXNET_CHECKPOINT_MINUTE is not one of ours" in said
    assert "Did you mean ALEXNET_CHECKPOINT_MINUTES?" in said
    assert "ALEXNET_PORT" not in said
    assert "Did you mean ALEXNET_LEARNING_RATE?" in alexnet("train", "--dry-run", ALEXNET_LR="3").stderr
    assert "ALEXNET_WARMUP: warmup must be" in alexnet("train", "--dry-run", ALEXNET_WARMUP="3", ALEXNET_EPOCHS="3").stderr


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["train", "--dry-run", "--set", "lr=1"], "Did you mean learning_rate?"),
        (["train", "--dry-run", "--set", "warmpu=1"], "Did you mean warmup?"),
        (["train", "--dry-run", "--epoch", "1"], "--epochs"),
        (["train", "--dry-run", "--lr", "1"], "Did you mean '--set learning_rate=…'?"),
        (["train", "--dry-run", "--weight-decay", "1"], "Did you mean '--set weight_decay=…'?"),
        (["help"], "Did you mean '--help'?"),
        (["train", "--dry-run", "--recipe", "digit"], "Did you mean digits?"),
        (["train", "--engine", "torch", "--data", "digit"], "Did you mean digits?"),
    ],
)
def test_a_hint(words, hint):
    done = alexnet(*words)
    assert (done.returncode, hint in done.stderr) == (2, True), done.stderr


def test_completion():
    def completed(words):
        return alexnet(_ALEXNET_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(words.split()) - 1)).stdout.split()

    assert completed("alexnet tr") == ["plain,train", "plain,trace"]
    assert completed("alexnet train --recipe report-") == ["plain,report-keras", "plain,report-torch"]
    assert completed("alexnet train --set learn") == ["plain,learning_rate="]


ROOT = DOCUMENTS[0].parents[1]
CALL = re.compile(r"alexnet ([a-z]+(?: push| report)?)([^#`·|;&]*)")
SHOWN = [
    path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))) if path.name != "commands.md"
]


@pytest.mark.parametrize("document", SHOWN, ids=lambda path: path.name)
def test_what_a_document_types_exists(document):
    """Every command in a block or between backticks, and every option of it."""
    known = {
        context.command_path.removeprefix("alexnet "): {word for option in context.command.params for word in option.opts} | {"--help"}
        for context in contexts(cli.make_context("alexnet", [], resilient_parsing=True))
    }
    text = document.read_text(encoding="utf-8")
    typed = re.findall(r"^    (?:\$ )?(alexnet .*)$|`(alexnet [^`]*)`", text, re.MULTILINE)
    for command, words in (found for pair in typed for found in CALL.findall("".join(pair))):
        assert command in known, f"alexnet {command}"
        assert {*re.findall(r"(?<![\w-])--[a-z][a-z-]*", words)} <= known[command], f"alexnet {command}{words}"
