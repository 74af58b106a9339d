"""The page that shows what a compression reached, and the same table for the terminal."""

from gancompress.report.content import MACS, Front, ImageRow, Report, Row, ScoredSubnet, Table
from gancompress.report.page import render, write_report
from gancompress.report.table import aligned_text, text_table

__all__ = [
    "MACS",
    "Front",
    "ImageRow",
    "Report",
    "Row",
    "ScoredSubnet",
    "Table",
    "aligned_text",
    "render",
    "text_table",
    "write_report",
]
