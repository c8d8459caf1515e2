"""Each wrong input ends in one clear line, leaves no file, and takes little time."""

import pytest
from cases import all_cases
from workshop import Case, Workshop, problems_of

CASES = all_cases()


@pytest.fixture(scope="session")
def workshop(tmp_path_factory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


def test_there_are_enough_cases_and_their_names_differ():
    assert len(CASES) >= 600
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=[case.name[:80] for case in CASES])
def test_wrong_input(case: Case, workshop: Workshop, tmp_path):
    assert not problems_of(case, workshop, tmp_path / "here")
