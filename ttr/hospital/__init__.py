"""Results in the form that hospitals keep: DICOM, made of plain values and of where they belong."""
