"""``ttr pacs``: against an archive in this process, and there and back through a real Orthanc."""

from __future__ import annotations

import re
import shutil
import subprocess
from io import BytesIO

import httpx
import numpy as np
import pydicom
import pytest

import ttr
from tests.tools.arrived import (
    EACH,
    FEW,
    PERSON,
    SECRETS,
    SERIES,
    SIDE,
    STUDY,
    make_few,
    make_small,
    radiograph,
    results,
)
from tests.tools.certificates import OPENSSL, self_signed
from tests.tools.certificates import WITHOUT as WITHOUT_OPENSSL
from tests.tools.orthanc import LOGIN, ORTHANC, PLUGIN, WITHOUT, orthanc
from tests.tools.small_archive import SmallArchive
from ttr.hospital.web import exchange
from ttr.hospital.web.access import PASSWORD, TOKEN, USER
from ttr.hospital.web.messages import message

pytest.importorskip("highdicom", reason="writing DICOM needs the extra [dicom]")


@pytest.fixture
def model(tmp_path, monkeypatch):
    for name in (USER, PASSWORD, TOKEN):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(exchange, "WAITS", ())
    make_small(monkeypatch)
    file = tmp_path / "n.json"
    ttr.RegisterNeurons.from_pairs(ttr.load("phantom", image_size=SIDE).planted).save(file)
    return ("--backbone", "phantom", "--image-size", SIDE, "--neurons", file)


@pytest.fixture
def served():
    with SmallArchive() as server:
        server.put(radiograph(1))
        yield server


def test_results_are_stored_and_said_in_a_sentence(served, model, run, monkeypatch, tmp_path):
    served.login = LOGIN
    monkeypatch.setenv(USER, LOGIN[0])
    monkeypatch.setenv(PASSWORD, LOGIN[1])
    command = ("pacs", "--url", served.url, "--study", STUDY, *model)
    status, out, err = run(*command, "--out", tmp_path / "kept")
    assert status == 0, err
    assert f"1 image of 1 series with results; 9 instances stored in {served.url}; in DICOM:" in out
    assert len(results(served)) == len(list((tmp_path / "kept").glob("*/*.dcm"))) == EACH
    status, out, _ = run(*command)
    assert f"1 image of 1 series with results; nothing new stored in {served.url}, where 9 were" in out
    assert set(served.stored.values()) == {1}
    assert not [word for word in (*SECRETS, *LOGIN[1:]) if word in out + err]


@pytest.mark.parametrize(
    "asked",
    [
        ("--series", SERIES),
        ("--study", STUDY, "--series", SERIES),
        ("--query", f"Modality=DX&StudyInstanceUID={STUDY}"),
        ("--query", "Modality=DX", "--limit", 1),
    ],
)
def test_a_dry_run_says_what_is_found_and_fetches_nothing(asked, served, model, run):
    status, out, err = run("pacs", "--url", served.url, *asked, *model, "--dry-run")
    assert (status, err) == (0, "")
    assert out == "found 1 image in 1 series\n"
    assert {method for method, _ in served.requests} == {"GET"}
    assert not [path for _, path in served.requests if path.count("/") == 7]


def test_without_storing_the_patient_stays_out_of_the_folder(served, model, run, monkeypatch, tmp_path):
    make_few(monkeypatch)
    command = ("pacs", "--url", served.url, "--study", STUDY, *model, "--no-store", "--quiet")
    for more, patient in (((), ""), (("--keep-patient",), PERSON["PatientID"])):
        status, _, err = run(*command, "--out", tmp_path / f"kept{patient}", *more)
        assert status == 0, err
        read = [pydicom.dcmread(path) for path in (tmp_path / f"kept{patient}").glob("*/*.dcm")]
        assert {data.PatientID or "" for data in read} == {patient}
    assert served.stored == {}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "nothing is asked for; give --study UID"),
        (("--study", "x"), "--study 'x' is no UID"),
        (("--study", STUDY, "--query", f"StudyInstanceUID={STUDY}"), "both name a StudyInstanceUID"),
        (("--study", STUDY, "--no-store"), "--no-store without --out leaves no results"),
        (("--query", "limit=1"), "--query asks for 'limit'"),
        (("--study", "1.9"), "the archive finds nothing"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, says, served, model, run):
    status, out, err = run("pacs", "--url", served.url, *options, *model)
    assert (status, out) == (2, "")
    assert says in " ".join(err.split())
    assert err.count("\n") == 1


def test_a_login_on_the_command_line_is_refused_and_not_repeated(model, run):
    status, out, err = run("pacs", "--url", "https://me:secret@pacs.example.org", "--study", STUDY, *model)
    assert status == 2
    assert "secret" not in out + err


def test_what_failed_is_named_by_uid_and_the_status_is_2(served, model, run, monkeypatch):
    make_few(monkeypatch)
    served.instances[STUDY, SERIES, f"{SERIES}.02"] = radiograph(3)
    served.instances[STUDY, SERIES, f"{SERIES}.2"] = radiograph(2)[:-1000]
    status, out, err = run("pacs", "--url", served.url, "--study", STUDY, *model, "--quiet")
    assert status == 2
    assert f"1 image of 1 series with results; {FEW} instances stored" in out
    assert "left out: 1 of the archive's series or instances, which have no valid UID" in err
    assert f"not done: {SERIES}.2: " in err
    assert err.endswith("ttr: 1 instance could not be done (above); the same command tries these again\n")
    assert not [word for word in SECRETS if word in out + err]


@pytest.mark.skipif(OPENSSL is None, reason=WITHOUT_OPENSSL)
def test_a_house_of_its_own_certificate_is_trusted_where_that_is_given(model, run, tmp_path):
    both, certificate = self_signed(tmp_path)
    with SmallArchive(certificate=both) as served:
        served.put(radiograph(1))
        command = ("pacs", "--url", served.url, "--study", STUDY, *model, "--dry-run")
        status, _, err = run(*command)
        assert (status, "give the house's own with --ca FILE" in " ".join(err.split())) == (2, True)
        assert run(*command, "--ca", certificate)[:2] == (0, "found 1 image in 1 series\n")


@pytest.fixture
def house(tmp_path):
    """The root of a real archive."""
    if ORTHANC is None or PLUGIN is None:
        pytest.skip(WITHOUT)
    with orthanc(tmp_path / "orthanc") as root:
        yield root


def read_all(client):
    """Return all instances of the study, as the archive gives them out."""
    accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    answer = client.get(f"/studies/{STUDY}", headers=accept)
    boundary = re.search("boundary=([^;]+)", answer.headers["Content-Type"])[1].encode()
    parts = answer.content.split(b"--" + boundary)[1:-1]
    return [pydicom.dcmread(BytesIO(part.split(b"\r\n\r\n", 1)[1][:-2])) for part in parts]


def pixels(data):
    return np.frombuffer(data.FloatPixelData, "<f4").reshape(data.Rows, data.Columns)


def test_there_and_back_through_a_real_archive(house, model, run, monkeypatch, tmp_path):
    command = ("pacs", "--url", house, "--query", f"Modality=DX&StudyInstanceUID={STUDY}", *model, "--quiet")
    with httpx.Client(base_url=house, auth=LOGIN, trust_env=False) as client:
        for number in (1, 2):
            body, head = message(radiograph(number, PixelSpacing=[0.2, 0.4]))
            assert client.post(f"/studies/{STUDY}", content=b"".join(body), headers=head).status_code == 200
        status, _, err = run(*command)
        assert (status, "refuses whoever asks (401)" in err) == (2, True)
        monkeypatch.setenv(USER, LOGIN[0])
        monkeypatch.setenv(PASSWORD, "wrong")
        assert run(*command)[0] == 2
        monkeypatch.setenv(PASSWORD, LOGIN[1])
        status, out, err = run(*command)
        assert (status, f"18 instances stored in {house}" in out) == (0, True), err
        made = [data for data in read_all(client) if data.SeriesInstanceUID != SERIES]
        status, out, err = run(*command)
        assert (status, "nothing new stored" in out) == (0, True), err
        assert len(read_all(client)) == 2 + len(made) == 2 + 2 * EACH
    _equal_what_is_compared_here(made, model, run, tmp_path)
    assert {(data.StudyInstanceUID, data.PatientID) for data in made} == {(STUDY, PERSON["PatientID"])}
    assert len({data.SeriesInstanceUID for data in made}) == EACH
    _valid(made, tmp_path)


def _equal_what_is_compared_here(made, model, run, tmp_path):
    """Hold the maps against those of ``ttr compare --dicom`` on the same files."""
    for number in (1, 2):
        (tmp_path / f"{number}.dcm").write_bytes(radiograph(number, PixelSpacing=[0.2, 0.4]))
    files = [tmp_path / f"{number}.dcm" for number in (1, 2)]
    status, _, err = run("compare", *model, "--quiet", "--dicom", "--out", tmp_path / "compared", *files)
    assert status == 0, err
    here = [pydicom.dcmread(path) for path in sorted((tmp_path / "compared" / "dicom").glob("*-map.dcm"))]
    maps = {_of(data): pixels(data) for data in made if "FloatPixelData" in data}
    assert len(maps) == len(here) == 8
    for data in here:
        assert np.abs(maps[_of(data)] - pixels(data)).max() <= 1e-6
        assert (pixels(data) > 0).any()


def _of(data):
    return data.SeriesDescription, int(data.InstanceNumber)


def _valid(made, tmp_path):
    """Have Debian's validators look at all of them, where they are installed."""
    for number, data in enumerate(made):
        path = tmp_path / f"made-{number}.dcm"
        data.save_as(path)
        if shutil.which("dciodvfy"):
            found = subprocess.run(["dciodvfy", path], capture_output=True, text=True)
            errors = re.findall("^Error.*", found.stdout + found.stderr, re.MULTILINE)
            # An image without a place in a patient has none of these.
            assert [line for line in errors if not re.search("<Plane(Position|Orientation)", line)] == []
        if shutil.which("dsrdump") and data.Modality == "SR":
            shown = subprocess.run(["dsrdump", path], check=True, capture_output=True, text=True)
            assert not re.search("^E:", shown.stderr, re.MULTILINE)
