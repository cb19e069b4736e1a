#!/usr/bin/env python3
"""lines.py wide FILE...     prints the lines of more than 100 columns.
lines.py commas FILE...   prints the C statements that are chained by the comma operator: an
                          expression statement with a comma outside all brackets."""
import re
import sys

TOKEN = re.compile(
    r'(?P<skip>/\*.*?\*/|//[^\n]*|^[ \t]*\#(?:[^\n\\]|\\.)*)'
    r'|(?P<text>"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\')'
    r'|(?P<word>[A-Za-z_]\w*)|(?P<number>\.?\d(?:[eEpP][+-]|[\w.])*)|(?P<space>\s+)|(?P<mark>.)',
    re.S | re.M,
)
CONTROL = {'if', 'for', 'while', 'switch'}
NOT_AN_EXPRESSION = CONTROL | {
    'else',
    'do',
    'case',
    'default',
    'goto',
    'const',
    'static',
    'struct',
    'unsigned',
    'signed',
    'int',
    'double',
    'float',
    'char',
    'bool',
    'void',
    'enum',
    'union',
    'typedef',
    'extern',
    'long',
    'short',
    'volatile',
    'inline',
    'auto',
    'template',
    'using',
    'namespace',
}


def tokens(source):
    """(text, line) of each token that is code."""
    line = 1
    for match in TOKEN.finditer(source):
        text = match.group(0)
        if match.lastgroup not in ('skip', 'space'):
            yield text, line
        line += text.count('\n')


def is_declaration(statement):
    """WORD WORD, WORD * WORD, WORD(...) WORD, WORD::WORD<...> and WORD[] = { declare."""
    words = ' '.join(text for text, _ in statement)
    return re.match(
        r'\w+ (\( [^()]* \) )?(\* )*\w|.*: : \w+ <|\w+ <|\w+ \[ .*?\] = {', words
    ) and not re.match(r'return\b', words)


def chained(statement):
    depth = 0
    for text, _ in statement:
        depth += (text in '([{') - (text in ')]}') if len(text) == 1 else 0
        if text == ',' and depth == 0:
            return True
    return False


def commas(source):
    """Lines of chained statements. A statement begins behind ; { } or the head of a control, in
    a block; parentheses and initialisers are passed over."""
    statement, blocks, parens, before, head = [], [], 0, ';', False
    controls = []
    for text, line in tokens(source):
        if text == '(':
            controls.append(before in CONTROL)
            parens += 1
        elif text == ')':
            parens -= 1
            closes_head = controls.pop() if controls else False
            if closes_head and parens == 0:
                statement, before, head = [], ')', True
                continue
        elif text == '{' and parens == 0:
            in_block = not blocks or blocks[-1]
            block = (
                head
                or before in (')', 'else', 'do', 'const')
                or (in_block and before in (';', '{', '}', ':'))
            )
            blocks.append(block)
            if block:
                statement, before, head = [], text, False
                continue
        elif text == '}' and parens == 0 and blocks:
            if blocks.pop() or not statement:
                statement, before, head = [], text, False
                continue
        if text == ';' and parens == 0:
            inside = bool(blocks) and all(blocks)
            first = statement[0][0] if statement else ''
            if (
                inside
                and first not in NOT_AN_EXPRESSION
                and not is_declaration(statement)
                and chained(statement)
            ):
                yield statement[0][1]
            statement = []
        elif text in ('else', 'do') or (
            text == ':' and statement and statement[0][0] in ('case', 'default')
        ):
            statement = []
        else:
            statement.append((text, line))
        before, head = text, False


def main():
    check, paths = sys.argv[1], sys.argv[2:]
    for path in paths:
        with open(path, encoding='utf-8') as file:
            source = file.read()
        lines = source.split('\n')
        if check == 'wide':
            found = [k for k, text in enumerate(lines, 1) if len(text) > 100]
        else:
            found = list(commas(source))
        for k in found:
            print(f'{path}:{k}: {lines[k - 1].strip()[:60]}')


main()
