"""`python -m benchmarks.s3`: both contestants do what is timed, and a table comes of it."""

from collections.abc import Callable

import pytest

from benchmarks.s3 import JOBS, OURS, STOCK, Sizes, main, prepare

SIZES = Sizes(megabytes=40, records=3, keys=7)


def test_ours_and_theirs_do_every_job_on_the_same_server(bucket: Callable[[str], str]):
    root = bucket("jobs")
    prepare(root, SIZES)
    for job in JOBS.values():
        for who in (OURS, STOCK):
            job(root, SIZES, who)


def test_a_listing_that_lacks_keys_is_no_result(bucket: Callable[[str], str]):
    root = bucket("lacking")
    prepare(root, Sizes(megabytes=1, records=1, keys=2))
    for who in (OURS, STOCK):
        with pytest.raises(AssertionError):
            JOBS["list keys"](root, SIZES, who)


@pytest.mark.slow
def test_the_command_prints_a_row_for_every_job(bucket: Callable[[str], str], capsys: pytest.CaptureFixture[str]):
    main(["--root", bucket("command"), "--megabytes", "2", "--records", "2", "--keys", "3", "--rounds", "1"])
    said = capsys.readouterr().out
    rows = [line for line in said.splitlines() if line.startswith("| ") and line.split("|")[1].strip() in JOBS]
    assert len(rows) == len(JOBS)
    assert all(float(cell) >= 0 for line in rows for cell in line.split("|")[2:-1])
