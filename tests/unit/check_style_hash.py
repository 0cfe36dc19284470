#!/usr/bin/python3
"""The pages' Content-Security-Policy allows one style, by its hash: browsers drop the style where the two differ.

    check_style_hash.py PAGES_C
"""

import base64
import hashlib
import re
import sys


def main(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    style = re.search(r'#define PAGE_STYLE "(.*)"\n', text).group(1)
    stated = re.search(r'#define PAGE_STYLE_HASH "(.*)"\n', text).group(1)
    right = "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    if stated != right:
        print(f"{path}: PAGE_STYLE_HASH must be {right}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
