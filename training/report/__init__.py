"""What does an export tell people? report.json and report.html, and the verdict table that it prints."""

from training.report.html import FILES, write
from training.report.unlabelled import write as write_unlabelled
from training.report.verdict_table import fitted, reasons, verdict
from training.variants.evidence import Evidence

__all__ = ["FILES", "Evidence", "fitted", "reasons", "verdict", "write", "write_unlabelled"]
