"""Taking a parse tree apart, with types.

Belongs here: access to children. Does not belong here: what they mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from lark import Token, Tree


def trees(tree: Tree[Token]) -> list[Tree[Token]]:
    """The children that are rules."""
    return [cast("Tree[Token]", child) for child in tree.children if hasattr(child, "children")]


def only(tree: Tree[Token]) -> Tree[Token]:
    """The one child that is a rule."""
    (child,) = trees(tree)
    return child


def tree_of(child: Tree[Token] | Token) -> Tree[Token]:
    return cast("Tree[Token]", child)


def token(child: Tree[Token] | Token) -> Token:
    return cast("Token", child)
