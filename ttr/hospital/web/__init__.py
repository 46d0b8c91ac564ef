"""An image archive over DICOMweb (PS3.18): found with QIDO-RS, fetched with WADO-RS, stored with STOW-RS."""
