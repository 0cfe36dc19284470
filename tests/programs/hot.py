"""Burns in inner, called by outer. Ends with its standard input."""

import select
import sys


def inner():
    return sum(i * i for i in range(20000))


def outer():
    return inner()


print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    outer()
