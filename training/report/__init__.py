"""report.json and report.html of an artifact, and the verdict table that the export prints."""

from training.report.evidence import Evidence
from training.report.page import FILES, write
from training.report.verdicts import fitted, reasons, verdict

__all__ = ["FILES", "Evidence", "fitted", "reasons", "verdict", "write"]
