#!/usr/bin/env python3
"""proofs.py [TABLE]: every public function of gan.h has its row in tests/tools/proofs.txt, and
every
proof that a row names is there: compiled, called, and about that function. Every kernel is called
in
tests/kernels.c, both its ref and its cpu version. proofs.txt says what the columns are."""
import glob
import os
import re
import subprocess
import sys

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..'))
COMPILER = os.environ.get('CC', 'cc').split()
TABLE = sys.argv[1] if len(sys.argv) > 1 else 'tests/tools/proofs.txt'
passed = failed = 0


def check(good, name, problem=''):
    global passed, failed
    if good:
        passed += 1
        print(f'ok   {name}')
    else:
        failed += 1
        print(f'FAIL {name}: {problem}')


def read(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


def preprocess(arguments, text=None):
    command = COMPILER + ['-E'] + arguments
    result = subprocess.run(command, input=text, capture_output=True, text=True)
    return result.stdout


def declarations():
    """{function: its declaration} of PART I, without the bare kernels."""
    part1 = read('gan.h').split('PART II:')[0].rsplit('/*', 1)[0]
    part1 = re.sub(r'#if defined\(GAN_STATIC\).*?#endif', '', part1, flags=re.S)
    part1 = re.sub(r'^#include.*$', '', part1, flags=re.M)
    head = '#define GAN_API GAN_DECLARES\n#define STBI_INCLUDE_STB_IMAGE_H\n'
    head += '#define INCLUDE_STB_IMAGE_WRITE_H\n'
    text = preprocess(['-P', '-x', 'c', '-'], head + part1)
    found = {}
    for line in re.split(r'[;}]', text.replace('\n', ' ')):
        match = re.search(r'GAN_DECLARES (.*?\**(gan_\w+) *\(.*)', line)
        if match and not re.match(r'gan_(ref|cpu)_', match.group(2)):
            found[match.group(2)] = match.group(1)
    return found


def own_text(path):
    """The file's own lines, its macros expanded."""
    lines, own = [], False
    for line in preprocess(['-DNO_STB', path]).split('\n'):
        marker = re.match(r'# \d+ "(.*?)"', line)
        if marker:
            own = marker.group(1) == path
        elif own:
            lines.append(line)
    return '\n'.join(lines)


class Tests:
    """What the tests hold: the names of tests that are run, and what each case computes."""

    # the tables: file, how a row begins, how the function of a row is called
    TABLES = [
        ('operations', 'case_', 'case_'),
        ('gradients', 'f_', 'f_'),
        ('mistakes', '"gan_', None),
    ]

    def __init__(self):
        self.names, self.text, self.expression = set(), {}, {}
        shared = read('tests/test.h')
        for path in glob.glob('tests/*.c') + glob.glob('tests/cuda/*.c'):
            file = os.path.basename(path)[:-2]
            source, expanded = read(path), own_text(path)
            self.text[file] = expanded + source + shared
            for name in re.findall(r'^static void (\w+)\(void\)', source, re.M):
                # it is given to something (run, a table) further on
                if re.search(r'[ (,{]' + name + r'[),}]', source.split(name, 1)[1]):
                    self.names.add((file, name))
        for file, row, function in self.TABLES:
            expanded = own_text(f'tests/{file}.c')
            for name in re.findall(r'\{ ?"(\w+)", ' + row, expanded):
                self.names.add((file, name))
            if function:
                flat = expanded.replace('\n', ' ')
                for part in flat.split('static gan_tensor *'):
                    match = re.match(function + r'(\w+)\(.*?return (.*?);', part)
                    if match:
                        self.expression[file, match.group(1)] = match.group(2)

    def is_about(self, case, function):
        """The case calls the function, or a function of the test, which may call it."""
        expression = self.expression.get(case)
        if expression is None or re.search(function + r' ?\(', expression):
            return True
        return re.search(r'\w\(', re.sub(r'gan_\w+ ?\(|name_of_case\(', ' ', expression))


def row_problems(row, declared, tests):
    """A row is: function, kernel, value, gradient, other."""
    if len(row) != 5:
        yield f'{row[0]}: {len(row)} words in its row, five are wanted'
        return
    function, counts = row[0], []
    for cell, file in zip(row[1:], ['kernels', 'operations', 'gradients', None]):
        proofs = [] if cell in ('-', 'n/a') else cell.split(',')
        counts.append(len(proofs))
        for proof in proofs:
            case = (file, proof) if file else tuple(proof.split(':', 1))
            if case not in tests.names:
                yield f'{function}: tests/{case[0]}.c has no {case[1]}'
            elif file != 'kernels' and not re.search(function + r' ?\(', tests.text[case[0]]):
                yield f'{function}: tests/{case[0]}.c does not call it'
            elif not tests.is_about(case, function):
                yield f'{function}: {case[1]} of tests/{case[0]}.c does not call it'
    if not sum(counts):
        yield f'{function}: no proof at all'
    if re.search(r'gan_tensor \*+gan_\w+ *\(.*gan_tensor', declared.get(function, '')):
        if row[2] == '-':
            yield f'{function}: it computes a tensor, and no value of it is compared'
        if row[3] == '-':
            yield f'{function}: it computes a tensor, and no gradient of it is checked'
    if row[2] == 'n/a' and not counts[1] + counts[3]:
        yield f'{function}: n/a wants another proof'


def main():
    declared = declarations()
    check(len(declared) >= 150, f'proofs: gan.h declares {len(declared)} functions', 'too few')
    rows = [line.split() for line in read(TABLE).split('\n') if re.match(r'\s*[^#\s]', line)]
    named = [row[0] for row in rows]
    missing = sorted(set(declared) - set(named))
    check(not missing, 'proofs: every function has a row', ' '.join(missing))
    extra = sorted(set(named) - set(declared))
    check(not extra, 'proofs: every row is of a function', ' '.join(extra))
    twice = sorted({name for name in named if named.count(name) > 1})
    check(not twice, 'proofs: no function has two rows', ' '.join(twice))

    tests = Tests()
    problems = [problem for row in rows for problem in row_problems(row, declared, tests)]
    for problem in problems:
        check(False, 'proofs', problem)
    if not problems:
        count = sum(len(c.split(',')) for row in rows for c in row[1:] if c not in ('-', 'n/a'))
        check(True, f'proofs: all {count} proofs of the rows are there')

    kernels = re.search(r'^#define GAN_KERNELS\(K\)(?:[^\n\\]|\\\n)*', read('gan.h'), re.M)
    kernels = re.findall(r'K\((\w+),', kernels.group(0)) if kernels else []
    source = read('tests/kernels.c')
    called = [f'gan_{which}_{kernel}' for kernel in kernels for which in ('ref', 'cpu')]
    untested = [name for name in called if f'{name}(' not in source]
    check(
        kernels and not untested,
        f'proofs: all {len(kernels)} kernels are called in tests/kernels.c, ref and cpu',
        ' '.join(untested),
    )
    print(f'{passed} passed, {failed} failed')
    sys.exit(failed != 0)


main()
