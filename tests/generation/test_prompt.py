"""A prompt is a file that is checked when it is read, filled in one pass, and never edited once it was used."""

import pytest
import yaml

from marco_data.errors import RecipeError
from marco_data.generation.prompt import SHIPPED, load_prompt, shipped

GOOD = {
    "purpose": "to show",
    "system": "You write [[language]].",
    "user": "Rewrite:\n[[document]]",
    "example": {"values": {"language": "X", "document": "y"}, "completion": "z", "parsed": "z"},
}

FROZEN = {
    "distill@1": "4545ef4ea546c03f",
    "diverse_qa@1": "4b59c82e8762aefb",
    "extract_knowledge@1": "ea50be9c6382cbfc",
    "guided_rewrite@1": "99f5a920036485a1",
    "knowledge_list@1": "906eeaba1c2463dd",
    "translate_qa@1": "cd3e48841d87d851",
    "wikipedia@1": "a8424041fa9303d6",
}
"""What these prompts ask, by digest. Documents were made with them: another text is another version."""


def written(folder, value, name="mine.yaml"):
    path = folder / name
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value, allow_unicode=True), "utf-8")
    return str(path)


@pytest.mark.parametrize("name", FROZEN)
def test_a_prompt_that_was_used_is_as_it_was(name):
    assert load_prompt(name).digest == FROZEN[name]


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_prompt_has_a_version_and_an_example_that_fills_it(name):
    prompt = load_prompt(name)
    assert name.partition("@")[2].isdigit()
    filled = prompt.request(prompt.example.values)
    assert filled.prompt == name
    assert "[[" not in "".join(content for _, content in filled.messages)
    assert prompt.example.completion


def test_values_are_filled_in_once_so_that_what_a_document_holds_stays(tmp_path):
    prompt = load_prompt(written(tmp_path, GOOD))
    values = {"language": "[[document]]", "document": "see [[language]], [[document]] and [[unknown]] \\1 \\g<0>"}
    assert prompt.request(values).messages == (
        ("system", "You write [[document]]."),
        ("user", "Rewrite:\nsee [[language]], [[document]] and [[unknown]] \\1 \\g<0>"),
    )


def test_a_request_carries_sampling_schema_sample_and_attempt(tmp_path):
    value = {**GOOD, "sampling": {"temperature": 0, "max_tokens": 7}, "schema": {"type": "object", "b": 1, "a": 2}}
    request = load_prompt(written(tmp_path, value)).request(GOOD["example"]["values"], sample=2, attempt=3)
    assert (request.sampling.temperature, request.sampling.max_tokens) == (0, 7)
    assert request.schema == '{"a":2,"b":1,"type":"object"}'
    assert (request.sample, request.attempt, request.prompt) == (2, 3, "mine")


def test_without_a_system_text_there_is_no_system_message(tmp_path):
    value = {**GOOD, "system": "", "example": {**GOOD["example"], "values": {"document": "y"}}}
    assert [role for role, _ in load_prompt(written(tmp_path, value)).request({"document": "y"}).messages] == ["user"]


def test_the_digest_is_of_what_is_asked_and_not_of_where_it_lies(tmp_path):
    def digest(name="a.yaml", **changed):
        return load_prompt(written(tmp_path, GOOD | changed, name)).digest

    assert digest() == digest("b.yaml") == digest(purpose="other") == digest(example={**GOOD["example"], "parsed": 1})
    others = [
        digest(user="[[document]]"),
        digest(sampling={"max_tokens": 9}),
        digest(schema={}),
        digest(system="[[language]]"),
    ]
    assert len({digest(), *others}) == 5


def test_an_edited_file_is_read_again(tmp_path):
    before = load_prompt(written(tmp_path, GOOD))
    after = load_prompt(written(tmp_path, GOOD | {"user": "Rewrite it well:\n[[document]]"}))
    assert before.digest != after.digest


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"document": "x"}, r"no value for \[\[language\]\]"),
        ({"document": "x", "language": "y", "topic": "z"}, "no place for `topic`"),
    ],
)
def test_a_value_too_few_or_too_many_is_named(tmp_path, values, told):
    with pytest.raises(RecipeError, match=told):
        load_prompt(written(tmp_path, GOOD)).request(values)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        pytest.param({"user": 3}, r"mine\.yaml:\d+: `user`: input should be a valid string", id="type"),
        pytest.param({"usr": "x"}, r"mine\.yaml:\d+: `usr`: extra inputs .*keys here: purpose, system, user", id="key"),
        pytest.param({"sampling": {"heat": 1}}, r"mine\.yaml:\d+: `sampling\.heat`", id="sampling"),
        pytest.param(
            {"user": "[[topic]]"}, r"mine\.yaml:\d+: `example.values`: .*no value for \[\[topic\]\]", id="example"
        ),
    ],
)
def test_a_mistake_is_told_with_file_line_and_key(tmp_path, changed, told):
    with pytest.raises(RecipeError, match=told):
        load_prompt(written(tmp_path, GOOD | changed))


def test_a_missing_key_is_told(tmp_path):
    with pytest.raises(RecipeError, match=r"mine\.yaml:1: `example`: field required"):
        load_prompt(written(tmp_path, {key: value for key, value in GOOD.items() if key != "example"}))


def test_what_is_not_there_is_told_with_what_is(tmp_path):
    with pytest.raises(RecipeError, match=r"(?s)`wikipedia@9` is not a prompt that is shipped.*wikipedia@1"):
        load_prompt("wikipedia@9")
    with pytest.raises(RecipeError, match="no prompt file at"):
        load_prompt(str(tmp_path / "none.yaml"))


def test_text_that_is_not_yaml_is_told_with_its_line(tmp_path):
    with pytest.raises(RecipeError, match=r"mine\.yaml:3: not valid YAML"):
        load_prompt(written(tmp_path, "purpose: x\nuser: [a\n"))


def test_every_shipped_file_is_loaded_by_its_name():
    assert shipped() == sorted(path.name.removesuffix(".yaml") for path in SHIPPED.iterdir())
