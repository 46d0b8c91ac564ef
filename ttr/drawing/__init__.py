"""Pictures, charts and pages, as functions of plain values: nothing here knows a study."""
