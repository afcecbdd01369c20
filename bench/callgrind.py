"""Where the instructions of a request go: `callgrind.py FEW MANY REQUESTS`, from two files that `instructions.py --profile`
kept, of which the second has so many requests more. What starting costs is in both and cancels out.
"""

import re
import sys
from collections import Counter

TOP = 60


def load(path):
    """Instructions of each function, of what it calls, and how often it is called."""
    names, own, below, calls = {}, Counter(), Counter(), Counter()
    function = callee = None
    of_call = False

    def name(text):
        number, rest = re.match(r"\((\d+)\)(?: (.*))?$", text).groups()
        if rest:
            names[number] = rest
        return names[number]

    with open(path, errors="replace") as lines:
        for line in lines:
            line = line.rstrip("\n")
            if line.startswith("fn="):
                function = name(line[3:])
            elif line.startswith("cfn="):
                callee = name(line[4:])
            elif line.startswith("calls="):
                calls[callee] += int(line[6:].split()[0])
                of_call = True
            elif line[:1].isdigit() or line[:1] in ("+", "-", "*"):
                words = line.split()
                if len(words) < 2:
                    continue
                if not of_call:
                    own[function] += int(words[1])
                elif callee != function:
                    below[callee] += int(words[1])
                of_call = False
    return own, below, calls


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    few, many, requests = load(sys.argv[1]), load(sys.argv[2]), int(sys.argv[3])
    total = (sum(many[0].values()) - sum(few[0].values())) / requests
    print(f"{total:,.0f} instructions a request")
    for title, index in [("by themselves", 0), ("with what they call", 1)]:
        print(f"\n{title:>22}   calls  function")
        grown = Counter({function: count - few[index][function] for function, count in many[index].items()})
        for function, count in grown.most_common(TOP):
            called = (many[2][function] - few[2][function]) / requests
            print(f"{count / requests:>14,.0f} {count / requests / total:>7.1%} {called:>7.2f}  {function[:140]}")


if __name__ == "__main__":
    main()
