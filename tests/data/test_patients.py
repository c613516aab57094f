"""Whose a case is: one rule, which painted cases keep to, in whatever folder they lie."""

import pytest

from polyclinic.data.patients import painted_key, patient_of, patients_of, real_case, same_names


@pytest.mark.parametrize(
    "case",
    [
        "TCGA_DU_5849",
        "glioma/TCGA_DU_5849",
        "BraTS-GLI-00000-001",
        "50 %/a%2Fb/c_painted",
        "images/0-1.png",
        "images/sub/Ä b_painted-12.jpeg",
    ],
)
@pytest.mark.parametrize("folder", ["", "more/cases/"])
def test_painted_cases_are_of_the_patient_of_their_target(case, folder):
    key = painted_key(case, 12)
    assert "/" not in key
    is_image = case.startswith("images/")
    lies = f"images/{key}.png" if is_image else f"{folder}{key}"
    assert real_case(lies) == case
    assert patient_of(lies) == patient_of(case)
    again = painted_key(lies, 123456)
    lies_again = f"images/{again}.png" if is_image else f"{folder}{again}"
    assert patient_of(lies_again) == patient_of(case)


def test_real_cases_are_as_they_were_named():
    for case in ("p1", "a/p1", "a%2Fb", "painted-00012", "x_painted-12", "images/a_painted-1.png"):
        assert real_case(case) == patient_of(case) == case
    assert patient_of("a/BraTS-GLI-00000-001") == "BraTS-GLI-00000"


def test_a_pattern_looks_at_the_real_case():
    pattern = r"_(\d+)\.png$"
    key = f"images/{painted_key('images/a_7.png', 12)}.png"
    assert patient_of(key, pattern) == patient_of("images/a_7.png", pattern) == "7"
    assert patient_of("images/b.png", pattern) == "images/b.png"


def test_painted_and_real_cases_meet_in_whatever_folders():
    painted = painted_key("glioma/TCGA_DU_1", 0)
    for real in ("glioma/TCGA_DU_1", "TCGA_DU_1", "real/glioma/TCGA_DU_1", "lgg/TCGA_DU_1"):
        cases = [real, "real/TCGA_DU_2", f"new/{painted}", "new/TCGA_DU_1_painted-00001"]
        found = patients_of(cases)
        assert found[cases[0]] == found[cases[2]] == found[cases[3]] == real
        assert found["real/TCGA_DU_2"] == "real/TCGA_DU_2"
    assert patients_of(["a/x", "b/x"]) == {"a/x": "a/x", "b/x": "b/x"}  # nothing is painted
    alone = patients_of([f"one/{painted}", f"two/{painted[:-1]}1"])
    assert set(alone.values()) == {"glioma/TCGA_DU_1"}


def test_names_are_compared_from_their_ends():
    known = ["sub-01/anat", "sub-02/anat", "b/TCGA_DU_1"]
    found = same_names(["data/sub-02/anat", "TCGA_DU_1", "sub-01/anat", "DU_1", "c/anat"], known)
    assert found == {
        "data/sub-02/anat": ["sub-02/anat"],
        "TCGA_DU_1": ["b/TCGA_DU_1"],
        "sub-01/anat": ["sub-01/anat"],
        "DU_1": [],
        "c/anat": ["sub-01/anat", "sub-02/anat"],  # it may be either
    }
    assert same_names(["x"], ["a/x", "x"]) == {"x": ["x"]}
