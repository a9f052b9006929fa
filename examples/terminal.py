"""The smallest workflow: one node, which is its start and its end. What a node without successors returns is an output.

python -m floxide_mp examples.terminal                       # "0-306-40615-2"
python -m floxide_mp examples.terminal --input '"019852663"'
"""

from __future__ import annotations

from floxide_mp import Workflow, node


@node
def isbn(digits: str) -> str:
    """The ISBN of a book, given its first nine digits: the tenth is computed from them."""
    if len(digits) != 9 or not digits.isdecimal():
        raise ValueError(f"nine digits are needed, not {digits!r}")
    rest = sum(weight * int(digit) for weight, digit in enumerate(digits, start=1)) % 11
    return f"{digits[0]}-{digits[1:4]}-{digits[4:]}-{'X' if rest == 10 else rest}"


class Isbn(Workflow):
    isbn = isbn

    start = isbn

    cli_defaults = {"input": "030640615"}


if __name__ == "__main__":
    print(Isbn().run("030640615").output)
