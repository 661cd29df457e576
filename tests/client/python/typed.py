"""Types answers at a terminal, each once it is asked for.

Usage: typed.py ANSWERS PROGRAM ARGUMENT..., where ANSWERS is a JSON array of pairs: a part of the prompt, and what is
typed. Prints what the terminal showed, and ends as the program does.
"""

import json
import os
import pty
import sys

answers, program = json.loads(sys.argv[1]), sys.argv[2:]
child, terminal = pty.fork()
if child == 0:
    os.execvp(program[0], program)


def shown():
    """What came next; nothing at the end, which Linux tells as an error."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


told = b""
for prompt, answer in answers:
    begun = len(told)
    while prompt.encode() not in told[begun:]:
        more = shown()
        if not more:
            sys.exit(f"{prompt!r} is not asked: {told.decode()}")
        told += more
    os.write(terminal, answer.encode() + b"\n")
while more := shown():
    told += more
print(told.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
