"""A bar on a terminal, drawn by rich. Imported only when a step has lasted so long that it is shown."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Column

from scr_export.progress import State

_WIDE = 80  # columns of a terminal that has room for a bar
_BAR = 20
_CLEAN = "\r\x1b[2K\x1b[?25h"


class Bar:
    """One line of a terminal. It appears with the first state, and vanishes at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # The stream is a terminal, whatever rich takes it for. NO_COLOR and the width are rich's business.
        self._console = Console(file=stream, force_terminal=True, highlight=False, markup=False, emoji=False)
        self._rich: RichProgress | None = None

    def show(self, state: State) -> None:
        """Draw the line."""
        is_wide = self._console.width >= _WIDE
        text = f"{state.amount if is_wide else state.share}, {state.pace}"
        if self._rich is None:
            self._rich = self._draw(with_bar=is_wide and bool(state.total))
            self._rich.add_task(state.step, total=state.total, text=text)
        self._rich.update(self._rich.task_ids[0], completed=state.done, text=text)
        self._rich.start()  # only the first time
        self._rich.refresh()

    def close(self) -> None:
        """Take the line away, and show the cursor again.

        By one write, which a signal finds done or not done: rich would draw once more, on the next line, and go back.
        """
        self._stream.write(_CLEAN)
        self._stream.flush()

    def _draw(self, *, with_bar: bool) -> RichProgress:
        columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False)]
        if with_bar:
            columns.append(BarColumn(_BAR))
        one_line = Column(no_wrap=True, overflow="ellipsis")
        columns.append(TextColumn("{task.fields[text]}", markup=False, table_column=one_line))
        return RichProgress(
            *columns,
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
