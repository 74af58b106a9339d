"""The page that shows what a compression reached, and the same table for the terminal."""

from gancompress.report.page import (
    ImageRow,
    Report,
    Row,
    Trial,
    render,
    text_table,
    write_report,
)

__all__ = [
    "ImageRow",
    "Report",
    "Row",
    "Trial",
    "render",
    "text_table",
    "write_report",
]
