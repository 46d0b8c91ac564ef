"""Which instance a file is: of any kind of DICOM, pixels or not, and of hostile ones none."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tests.tools.dicom_files import dicom, write
from ttr.datasets.dicom.identity import Identity, identity_of, is_uid
from ttr.errors import ImageError
from ttr.wording import MANUFACTURER

IDS = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.1", "SOPInstanceUID": "1.2.3.4"}


@pytest.mark.parametrize("more", [{}, {"PixelData": None}, {"syntax": DeflatedExplicitVRLittleEndian}])
def test_a_file_of_any_kind_says_which_instance_it_is(more, tmp_path):
    found = identity_of(write(tmp_path / "a.dcm", **IDS, **more))
    assert found == Identity("1.2.3", "1.2.3.1", "1.2.3.4", ours=False)


def test_what_we_made_is_ours(tmp_path):
    assert identity_of(write(tmp_path / "a.dcm", **IDS, Manufacturer=MANUFACTURER)).ours
    assert not identity_of(write(tmp_path / "a.dcm", **IDS, Manufacturer=f"not {MANUFACTURER}")).ours


@pytest.mark.parametrize(
    "content", [b"", b"<html>", dicom()[:300], dicom()], ids=["", "html", "cut", "no study"]
)
def test_what_is_none_is_refused(content, tmp_path):
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.dcm"):
        identity_of(tmp_path / "a.dcm")


def test_what_is_a_uid():
    assert is_uid("1.2.840.10008")
    for each in ("", "1.2.03", "1..2", "1.2/../3", "1.2\n", "1" * 65, None, 12, np.float32(1.2)):
        assert not is_uid(each), each
