"""Reading recipes: what a word means, where a key stands, what is refused."""

from __future__ import annotations

import os
import time
from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mmcl.api import RecipeError
from mmcl.api.errors import LISTED
from mmcl.recipe import read as reader
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe, read_recipe, scalar


def values(text: str, *overrides: str):
    return parse_recipe(text, "r.yaml", overrides).values


def problems(text: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as error:
        parse_recipe(text, "r.yaml", overrides)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-2", -2),
        ("+7", 7),
        ("1.", 1.0),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("12:30", "12:30"),
        ("2024-01-02", "2024-01-02"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("True", "True"),
        (".inf", ".inf"),
        ("nan", "nan"),
        ("'3'", "3"),
        ('"true"', "true"),
    ],
)
def test_a_word_means_what_it_looks_like(text, value):
    read = values(f"a: {text}\n")["a"]
    assert read == value
    assert type(read) is type(value)


@given(st.integers(-(10**12), 10**12))
def test_integers_come_back(number):
    assert scalar(str(number)) == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_come_back(number):
    assert scalar(repr(number)) == number


def test_lists_are_tuples_and_mappings_nest():
    assert values("a: [1, [2, x]]\nb:\n  - {c: 1}\n") == {"a": (1, (2, "x")), "b": ({"c": 1},)}


def test_a_key_given_twice_names_both_lines():
    assert problems("a: 1\nb: 2\na: 3\n") == "r.yaml:3: a: is given twice (first on line 1)"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: !!python/object:os.system x\n", "r.yaml:1: a: has a tag (!…); recipes have no tags"),
        ("a: !x {b: 1}\n", "recipes have no tags"),
        ("a:\n  b: &k [1]\n  c: *k\n", "r.yaml:2: a.b: uses an anchor (&name, *name); write the value out"),
        ("a: 1\nb: &nobody 2\n", "r.yaml:2: b: uses an anchor"),
        ("a: 1\n&k b: 2\n", "r.yaml:2: b: uses an anchor"),
        ("a: 1\n!x b: 2\n", "r.yaml:2: b: has a tag (!…); recipes have no tags"),
        ("a:\n  &k\n  b: 2\n", "r.yaml:2: a: uses an anchor"),
        ("a: !!map {b: 1}\n", "r.yaml:1: a: has a tag"),
        ("a: &k [*k]\n", "r.yaml:1: a: uses an anchor"),
        ("a: *k\n", "r.yaml:1: is not valid YAML: found undefined alias 'k'"),
        ("", "is empty; a recipe starts with 'format: 1'"),
        ("- a\n- b\n", "must be a mapping of keys"),
        ("a: [1,\n", "is not valid YAML"),
        (
            "a: {b: 1\nc: 2\n",
            "r.yaml:2: is not valid YAML: while parsing a flow mapping expected ',' or '}', but got ':'; it begins on line 1",
        ),
        (
            "a:\n  b: 2\n  c:1\nd: 3\n",
            "r.yaml:3: is not valid YAML: while scanning a simple key could not find expected ':'; "
            "a key is followed by a colon and a space",
        ),
        (
            "a: 1\n  b: 2\n",
            "r.yaml:2: is not valid YAML: mapping values are not allowed here; keys of one section are indented alike, "
            "each with a colon and a space; a text with ': ' in it stands in quotes",
        ),
        (
            "a:\n\tb: 1\n",
            "r.yaml:2: is not valid YAML: while scanning for the next token found character '\\t' that cannot start any token; "
            "indent with spaces",
        ),
        ("a: 1\n---\nb: 2\n", "is not valid YAML"),
        ("? [a, b]\n: 1\n", "has a key that is not a word"),
        ("a: 1\nb: \x07\n", "r.yaml:2: is not valid YAML: unacceptable character #x0007"),
        ("# nothing but a comment\n", "r.yaml:1: is empty"),
        ("just words\n", "r.yaml:1: must be a mapping of keys"),
    ],
)
def test_what_is_no_recipe_is_refused_in_words(text, words):
    assert words in problems(text)


def test_an_empty_override_takes_a_name_of_the_users_choice_away():
    text = "modalities: {a: {x: 1}, b: {x: 2}}\nprobe: {heads: {one: linear, two: knn}, seeds: [0]}\n"
    document = parse_recipe(text, "r.yaml", ["modalities.a=", "probe.heads.two=", "probe.seeds="])
    assert document.values == {"modalities": {"b": {"x": 2}}, "probe": {"heads": {"one": "linear"}, "seeds": None}}
    assert ("modalities", "a", "x") not in document.places
    with pytest.raises(RecipeError, match="--set: modalities.c: is not there to be taken away; there are a, b"):
        parse_recipe(text, "r.yaml", ["modalities.c="])


def test_a_lenient_override_is_laid_only_over_a_recipe_that_has_its_section():
    text = "a: {b: {c: 1}}\nd: word\n"
    document = parse_recipe(text, "r.yaml", ["a.b.c?=2", "a.x.y?=3", "e.f?=4", "d.g?=5"])
    assert document.values == {"a": {"b": {"c": 2}}, "d": {"use": "word", "g": 5}}


def test_what_is_refused_is_told_once():
    """A block mapping begins where its first key does; the sign is the key's alone."""
    assert problems("!x a: 1\n") == "r.yaml:1: a: has a tag (!…); recipes have no tags"
    assert problems("a: &k 1\nb: *k\nc: *k\n").count("anchor") == 1


def test_signs_inside_words_are_no_tags_and_no_anchors():
    assert values("a: x & y!\nb: '&z'\nc: \"!z\"\n") == {"a": "x & y!", "b": "&z", "c": "!z"}


def test_byte_order_mark_is_passed_over_and_lines_still_count():
    assert values("\ufeffa: 1\n") == {"a": 1}
    assert problems("\ufeffa: 1\nb: &k 2\n").startswith("r.yaml:2: b: uses an anchor")


PLAIN = st.one_of(
    st.booleans(),
    st.none(),
    st.integers(-(10**18), 10**18),
    st.floats(allow_nan=False, allow_infinity=False),
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_.+-]{0,20}", fullmatch=True).filter(lambda word: word not in ("true", "false", "null")),
)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.one_of(PLAIN, st.lists(PLAIN, max_size=3).map(tuple)), min_size=1
    )
)
def test_plain_values_come_back_with_their_type_from_both_styles(mapping):
    def write(value) -> str:
        if isinstance(value, tuple):
            return "[" + ", ".join(write(item) for item in value) + "]"
        return {True: "true", False: "false"}[value] if isinstance(value, bool) else "null" if value is None else str(value)

    def typed(value):
        return [typed(v) for v in value] if isinstance(value, tuple) else (type(value), value)

    flow = "{" + ", ".join(f"{key}: {write(value)}" for key, value in mapping.items()) + "}"
    block = "".join(f"{key}: {write(value)}\n" for key, value in mapping.items())
    for read in (values(block), values(flow), values("a: 1\n", f"a={flow}")["a"]):
        assert {key: typed(value) for key, value in read.items()} == {key: typed(value) for key, value in mapping.items()}


@given(st.text(alphabet="ab01.e-+:?,[]{}&*!|>'\"%@#~\\ \n\t\x07\ufeffé", max_size=30))
def test_any_text_is_read_or_refused_and_nothing_else(text):
    with suppress(RecipeError):
        values(text)
    with suppress(RecipeError):
        values("a: 1\n", f"a={text}")


def test_all_problems_of_form_are_told_at_once():
    assert len(problems("a: !x 1\nb: 1\nb: 2\n").splitlines()) == 2


def test_a_file_that_is_missing_or_not_text_is_told(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read"):
        read_recipe(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(RecipeError, match="is not UTF-8 text"):
        read_recipe(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("a.b=2", {"a": {"b": 2, "c": "x"}}),
        ("a.new.deep=3e-4", {"a": {"b": 1, "c": "x", "new": {"deep": 3e-4}}}),
        ("a=", {"a": None}),
        ("a=[1, 2]", {"a": (1, 2)}),
        ("a={use: y, k: 1}", {"a": {"use": "y", "k": 1}}),
        ("a.c=p=q", {"a": {"b": 1, "c": "p=q"}}),
        ("a.c.kernel=5", {"a": {"b": 1, "c": {"use": "x", "kernel": 5}}}),
        ("z=no", {"a": {"b": 1, "c": "x"}, "z": "no"}),
    ],
)
def test_set_lays_a_value_over_the_recipe(override, expected):
    assert values("a: {b: 1, c: x}\n", override) == expected


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("a", "must look like key.inner=value"),
        ("a..b=1", "must look like"),
        ("a.b.d=1", "is not a mapping"),
        ("a=[1", "--set: a: is not valid YAML"),
        ("a={c: 1, c: 2}", "--set: a.c: is given twice"),
        ("a=!x 1", "--set: a: has a tag"),
        ("a=&k 1", "--set: a: uses an anchor"),
        ("a.b.d.e=1", "--set: a.b.d.e: cannot be set: 'a.b.d' is not a mapping"),
        ("=1", "--set =1: must look like key.inner=value"),
    ],
)
def test_set_that_cannot_be_laid_is_refused(override, words):
    assert words in problems("a: {b: 1}\n", override)


def test_lines_are_those_of_the_keys():
    document = parse_recipe("# first\na:\n  b: 1\n\n  c:\n    - x\n    - y\n", "r.yaml")
    assert document.places[("a",)] == ("r.yaml", 2)
    assert document.places[("a", "c")] == ("r.yaml", 5)
    assert document.places[("a", "c", 1)] == ("r.yaml", 7)
    assert str(document.problem(("a", "c", "nothing"), "x")) == "r.yaml:5: a.c.nothing: x"
    assert parse_recipe("a: {b: 1}\n", "r.yaml", ["a.b=2"]).problem(("a", "b"), "x").file == "--set"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a: 1\n".encode("utf-16"), "1: is text in UTF-16; save it as UTF-8"),
        (b"a: 1\nb: caf\xe9\n", "2: is not UTF-8 text (byte 11)"),
        ("a:\n\u00a0\u00a0b: 1\n".encode(), "2: has a key with a U+00A0 (no-break space) in it; write a space"),
        (
            "a: {b: 1\n\u00a0\u00a0c: 2}\n".encode(),
            "there is a U+00A0 (no-break space) at or above this line, which looks like a space and is none",
        ),
    ],
)
def test_text_of_other_encodings_and_blanks_is_refused_with_its_line(tmp_path, content, sentence):
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    assert str(caught.value).startswith(f"{path}:")
    assert sentence in str(caught.value)


def test_recipe_of_a_windows_editor_reads_as_any_other(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb:\r\n  c: x\r\n")
    document = read_recipe(path)
    assert document.values == {"a": 1, "b": {"c": "x"}}
    assert "\r" not in document.text


LINES = "".join(f"  k{i}: {{use: 'x y', a: [1, 2.5, true, null, \"é\\t\"], b: ~}}  # no key\n" for i in range(600))


@pytest.mark.parametrize(
    "more",
    [
        "",
        "name: [1\n",
        "k: &a 1\n",
        "k: !t 1\n",
        "name: a\nname: b\n",
        "k: a\tb\n",
        "k: {: 1}\n",
        "a: b: c\n",
        "k: 'x\n",
        "\x07\n",
    ],
)
def test_a_long_recipe_is_read_by_another_reader_to_the_same_values_lines_and_words(more, monkeypatch):
    def outcome():
        try:
            one = parse_recipe(text, "r.yaml")
        except RecipeError as error:
            return str(error)
        return one.values, one.places

    text = f"format: 1\nmany:\n{LINES}{more}"
    assert len(text) > reader.LONG
    fast, used = outcome(), []
    monkeypatch.setattr(yaml, "SafeLoader", lambda text, real=yaml.SafeLoader: used.append(text) or real(text))
    assert outcome() == fast
    assert bool(used) == (
        bool(more) and "&" not in more and "!" not in more and "name: b" not in more
    )  # else libyaml has read it
    monkeypatch.setattr(reader, "LONG", 10**9)
    assert outcome() == fast


@pytest.mark.parametrize("text", ["a: " + "[" * 20_000 + "]" * 20_000, "a: " + "{a: " * 20_000])
def test_nesting_without_end_in_a_long_recipe_is_one_sentence(text):
    with pytest.raises(RecipeError, match="more than 40 lists or mappings within each other"):
        parse_recipe(text, "r.yaml")


def test_a_recipe_of_thousands_of_unknown_keys_is_refused_in_seconds_and_a_hundred_lines(monkeypatch):
    text = "format: 1\n" + "".join(f"key{i}: 1\n" for i in range(5_000))
    began = time.process_time()
    with pytest.raises(RecipeError) as error:
        make_plan(parse_recipe(text, "r.yaml"))
    assert time.process_time() - began < 10
    lines = str(error.value).splitlines()
    assert len(lines) == LISTED + 1
    assert lines[-1] == "and 900 problems more"


def test_what_is_no_recipes_file_is_refused_before_it_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(RecipeError, match="is neither a file nor a folder"):
        read_recipe(tmp_path / "pipe.yaml")
    with (tmp_path / "huge.yaml").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(RecipeError, match="bytes; a recipe has at most 2,000,000"):
        read_recipe(tmp_path / "huge.yaml")
    (tmp_path / "r.yaml").write_text("base: huge.yaml\n")
    with pytest.raises(RecipeError, match=r"base: .*huge.yaml: has 1,099,511,627,776 bytes"):
        read_recipe(tmp_path / "r.yaml")
    (tmp_path / "r.yaml").write_text("base: pipe.yaml\n")
    with pytest.raises(RecipeError, match="there is no such file"):
        read_recipe(tmp_path / "r.yaml")
