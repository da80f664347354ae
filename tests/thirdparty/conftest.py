"""These are strangers' projects: tests/test_thirdparty.py installs them into an empty folder and runs their tests there."""

collect_ignore_glob = ["mmcl-*"]
