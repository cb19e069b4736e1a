"""C in a notebook: the cell magic %%gan, and load(), which brings build/libgan.so to Python.

    import gan_magic

    %%gan
    gan *g = gan_open("cpu", 42);
    printf("%g\n", gan_item(gan_sum(gan_randn(g, 1, 3, 8, 8))));

A cell without a main gets one around it. It is compiled against gan.h, linked with build/libgan.so
and run in the folder notebooks/out; what it
prints comes line by line, and every picture that it writes is shown, and shown anew when it is
written again. The compiler's complaints count the
cell's own lines; a program that crashes or that gan.h stops says why, and the notebook lives on.

    %%gan -c                keep this cell's text for the cells that follow, and run nothing:
                            functions that several cells use
    %%gan -t 60             end the program after 60 seconds
    %%gan -q                no pictures

It needs a C compiler, make and IPython; load() needs cffi and NumPy (Debian: python3-cffi
python3-numpy; elsewhere: pip install cffi numpy).
"""
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

from IPython import get_ipython
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from IPython.display import Image, display

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
OUT = HERE / 'out'
CC = os.environ.get('CC', 'cc')
kept = {}  # name of the first function of a kept cell: its text

PROLOGUE = r'''
#if __has_include(<stb/stb_image.h>)
#include <stb/stb_image.h>
#include <stb/stb_image_write.h>
#endif
#include "gan.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
__attribute__((constructor)) static void line_by_line(void) { setvbuf(stdout, NULL, _IOLBF, 0); }
'''


def library():
    """The path of build/libgan.so, built anew where gan.h is younger."""
    made = subprocess.run(
        ['make', '--no-print-directory', '-C', str(ROOT), 'lib'], capture_output=True, text=True
    )
    if made.returncode != 0:
        raise RuntimeError('make lib: ' + made.stdout + made.stderr)
    return ROOT / 'build' / 'libgan.so'


def source_of(cell):
    """A whole C file: what is kept, and the cell, with main around it if it has none. #line makes
    the compiler count the cell's own lines."""
    text = PROLOGUE + ''.join(
        f'#line 2 "kept cell {name}"\n{body}\n' for name, body in kept.items()
    )
    if re.search(r'\bmain\s*\(', cell):
        return f'{text}#line 2 "cell"\n{cell}\n'
    includes = ''.join(
        line + '\n' for line in cell.splitlines() if line.lstrip().startswith('#include')
    )
    body = re.sub(r'(?m)^(\s*)#include', r'\1//#include', cell)
    return f'{text}{includes}int main(void) {{\n#line 2 "cell"\n{body}\nreturn 0;\n}}\n'


def compile_cell(cell):
    """The program's path, or None after the compiler's complaints were printed."""
    lib = library()
    OUT.mkdir(exist_ok=True)
    program = OUT / '.cell'
    command = [
        CC,
        '-x',
        'c',
        '-',
        '-x',
        'none',
        '-o',
        str(program),
        '-O2',
        '-Wall',
        '-Wno-unused-function',
        '-I',
        str(ROOT),
        '-I',
        str(lib.parent),
        str(lib),
        f'-Wl,-rpath,{lib.parent}',
        '-lm',
        '-fdiagnostics-color=never',
    ]
    done = subprocess.run(command, input=source_of(cell), capture_output=True, text=True)
    if done.stderr:
        print(done.stderr, file=sys.stderr)
    return program if done.returncode == 0 else None


class Pictures:
    """Shows every picture in a folder that is younger than this object, once, and again in the
    same place when it changes."""

    def __init__(self):
        self.start, self.shown = time.time() - 0.01, {}

    def look(self):
        for path in sorted(p for p in OUT.rglob('*') if p.suffix in ('.png', '.gif')):
            written = path.stat().st_mtime
            if written < self.start or written == self.shown.get(path, (0, None))[0]:
                continue
            picture = Image(data=path.read_bytes(), format=path.suffix[1:])
            if path in self.shown:
                handle = self.shown[path][1]
                handle.update(picture)
            else:
                handle = display(picture, display_id=True)
            self.shown[path] = (written, handle)


def run_program(program, seconds, pictures):
    """Runs it, passing on what it prints; True if it ended by itself with 0."""
    child = subprocess.Popen(
        [str(program)],
        cwd=OUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace',
    )
    late = threading.Timer(seconds, child.kill) if seconds else None
    if late:
        late.start()
    try:
        for line in child.stdout:
            print(line, end='', flush=True)
            if pictures:
                pictures.look()
        code = child.wait()
    except KeyboardInterrupt:  # the notebook's stop button
        child.kill()
        child.wait()
        print('stopped', file=sys.stderr)
        return False
    finally:
        if late:
            late.cancel()
    if pictures:
        pictures.look()
    if code < 0:
        reason = {
            signal.SIGSEGV: 'it used memory that is not its own',
            signal.SIGABRT: 'the line above says why',
        }.get(-code, '')
        reason = (
            f'no end after {seconds:g} seconds' if seconds and code == -signal.SIGKILL else reason
        )
        print(
            f'the program ended by {signal.Signals(-code).name}{": " if reason else ""}{reason}',
            file=sys.stderr,
        )
    elif code > 0:
        print(f'the program ended with exit status {code}', file=sys.stderr)
    return code == 0


@magic_arguments()
@argument(
    '-c', '--keep', action='store_true', help='keep the text for later cells, and run nothing'
)
@argument('-t', '--timeout', type=float, default=0, help='end the program after so many seconds')
@argument('-q', '--quiet', action='store_true', help='show no pictures')
def gan(line, cell):
    arguments = parse_argstring(gan, line)
    if not arguments.keep:
        program = compile_cell(cell)
        if program:
            run_program(program, arguments.timeout, None if arguments.quiet else Pictures())
        return
    name = re.search(r'(\w+)\s*\([^;{]*\)\s*\{', cell)
    name = name.group(1) if name else f'{len(kept) + 1}'
    before, kept[name] = kept.pop(name, None), cell
    if not compile_cell(''):
        kept.pop(name)
        if before is not None:
            kept[name] = before


if get_ipython():
    get_ipython().register_magic_function(gan, 'cell')


def declarations():
    """gan.h's declarations as cffi reads them: what the preprocessor leaves of the header itself,
    without the system's headers."""
    text = subprocess.run(
        [
            CC,
            '-E',
            '-DGAN_API=',
            '-DSTBI_INCLUDE_STB_IMAGE_H',
            '-DINCLUDE_STB_IMAGE_WRITE_H',
            '-x',
            'c',
            str(ROOT / 'gan.h'),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    own, lines = False, []
    for line in text.splitlines():
        marker = re.match(r'# \d+ "([^"]*)"', line)
        if marker:
            own = marker.group(1).endswith('gan.h')
        elif own:
            lines.append(line)
    text = '\n'.join(lines).replace('extern', '')
    # The guard against two sizes of GAN_REAL in one program is a definition, which cffi cannot read.
    return re.sub(r'__attribute__\(\(used\)\)\s*static const char \*const \w+ = &\w+;', '', text)


class Library:
    """build/libgan.so with gan.h's functions under their names. Arguments: numbers, strings, NumPy
    arrays of float32 (passed as they lie in memory),
    pointers that other functions returned, None for NULL. new('gan_conv', n=8, c=3) makes a
    struct; tensor() and array() go between NumPy and a device.
    """

    def __init__(self):
        import cffi

        self.ffi = cffi.FFI()
        self.ffi.cdef(declarations())
        self.lib = self.ffi.dlopen(str(library()))
        self.errors = []
        self.caught = self.ffi.callback(
            'void(const char *, void *)',
            lambda text, user: self.errors.append(self.ffi.string(text).decode()),
        )

    def __getattr__(self, name):
        function = getattr(self.lib, name)
        if not callable(function):
            return function

        def call(*arguments):
            held = [self.passed(argument) for argument in arguments]
            result = function(*held)
            return (
                self.ffi.string(result).decode()
                if self.ffi.typeof(function).result is self.ffi.typeof('char *') and result
                else result
            )

        call.__name__ = name
        return call

    def passed(self, argument):
        import numpy

        if isinstance(argument, numpy.ndarray):
            if argument.dtype != numpy.float32 or not argument.flags['C_CONTIGUOUS']:
                raise TypeError(
                    f'an array of {argument.dtype}: gan.h wants float32 in C order, as '
                    'numpy.ascontiguousarray(a, numpy.float32) gives'
                )
            return self.ffi.from_buffer('float[]', argument, require_writable=False)
        if isinstance(argument, str):
            return argument.encode()
        return self.ffi.NULL if argument is None else argument

    def new(self, struct, **fields):
        """A zeroed struct of gan.h with some fields set; give it where a pointer to one is
        wanted."""
        made = self.ffi.new(struct + ' *')
        for name, value in fields.items():
            setattr(made, name, value)
        return made

    def tensor(self, g, array):
        """A tensor on g with the numbers of an array of one to four dimensions; missing ones come
        first: (H,W) is (1,1,H,W)."""
        import numpy

        array = numpy.ascontiguousarray(array, numpy.float32)
        return self.gan_from_host(g, array, *((1,) * (4 - array.ndim) + array.shape))

    def array(self, t):
        """A tensor's numbers as an array (N,C,H,W)."""
        import numpy

        out = numpy.empty((t.n, t.c, t.h, t.w), numpy.float32)
        self.gan_to_host(t, out)
        return out


def load():
    """gan.h for Python: gan = load(); g = gan.gan_open('cpu', 42); ..."""
    return Library()
