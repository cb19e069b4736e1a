#!/usr/bin/env python3
"""execute.py [NOTEBOOK...]: runs notebooks (all beside this file, unless some are named) from top
to bottom and keeps their outputs; the first error
ends it. With GAN_QUICK=1 in the environment the trainings are short and nothing is kept: that is
the test. Prints one line for each, and how many
passed and failed."""
import os
import pathlib
import sys
import time

import nbclient
import nbformat

os.environ.setdefault(
    'PYDEVD_DISABLE_FILE_VALIDATION', '1'
)  # the kernel's debugger would complain on every start
HERE = pathlib.Path(__file__).resolve().parent


class Client(nbclient.NotebookClient):
    def on_comm_open_jupyter_widget(
        self, message
    ):  # a slider needs no answer here, and ipywidgets 6 sends no state to read
        return None


passed = failed = 0
for path in [pathlib.Path(name).resolve() for name in sys.argv[1:]] or sorted(HERE.glob('*.ipynb')):
    notebook, start = nbformat.read(path, 4), time.time()
    for cell in notebook.cells:
        if cell.cell_type == 'code':
            cell.outputs, cell.execution_count = [], None
    try:
        Client(notebook, timeout=1800, resources={'metadata': {'path': str(HERE)}}).execute()
        seconds, size = time.time() - start, len(nbformat.writes(notebook))
        if len(notebook.cells) > 25 or size > 1.5e6:
            raise RuntimeError(
                f'{len(notebook.cells)} cells and {size} bytes: at most 25 and 1.5 million'
            )
        if not os.environ.get('GAN_QUICK'):
            nbformat.write(notebook, path)
        print(
            f'ok   {path.name} ({seconds:.0f} s, {len(notebook.cells)} cells, {size / 1e6:.2f} MB)',
            flush=True,
        )
        passed += 1
    except Exception as error:
        print(
            f'FAIL {path.name}: {(str(error).strip() or repr(error)).splitlines()[-1]}', flush=True
        )
        failed += 1
print(f'{passed} passed, {failed} failed')
sys.exit(failed != 0)
