"""The page that shows what a compression reached, and the same table for the terminal."""

from gancompress.report.content import ImageRow, Report, Row, Trial
from gancompress.report.page import render, write_report
from gancompress.report.table import text_table

__all__ = [
    "ImageRow",
    "Report",
    "Row",
    "Trial",
    "render",
    "text_table",
    "write_report",
]
