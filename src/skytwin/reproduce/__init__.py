"""A paper's study from data to a report: sections, their artefacts, one HTML page."""
