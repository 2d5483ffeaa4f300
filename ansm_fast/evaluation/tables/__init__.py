"""Rows of an evaluation as tables: terminal, Markdown and CSV."""

from ansm_fast.evaluation.tables.attacked import attacked_tables
from ansm_fast.evaluation.tables.csv import csv_text
from ansm_fast.evaluation.tables.markdown import check_markdown, markdown, write_markdown
from ansm_fast.evaluation.tables.terminal import terminal_tables

__all__ = [
    "attacked_tables",
    "check_markdown",
    "csv_text",
    "markdown",
    "terminal_tables",
    "write_markdown",
]
