"""A language of strings after the notation of chemists: valid if brackets close and no atom has more bonds
than it can form.

    "CC(=O)N"       atoms C, N, O, F form 4, 3, 2 and 1 bonds; "=" and "#" before an atom make its bond double
                    or triple; "(...)" is a side chain of the atom before it, after which the chain continues

    worth(s) = 6.5 - 0.75 |carbons - 5| - 1.2 |nitrogens and oxygens - 4| - 0.9 |double bonds - 2|
               - 1.5 (bonds between two atoms that are not carbon)

Worth does not simply grow with any count. Its maximum, 6.5, takes strings of nine atoms or more, which
`strings` does not produce.
"""

from __future__ import annotations

import numpy as np

BONDS = {"C": 4, "N": 3, "O": 2, "F": 1}
_ORDER = {"=": 2, "#": 3}
_FREQUENCIES = (0.8, 0.07, 0.07, 0.06)
_BRANCHES = 0.15
HIGHEST = 6.5


def atoms_and_bonds(string: str) -> tuple[str, list[tuple[int, int, int]]] | None:
    """The atoms in order and the bonds (atom, atom, order); None if the string is not valid."""
    atoms, bonds, opened = "", [], []
    at, order, fresh = -1, 1, True
    for sign in string:
        if sign in BONDS:
            if at >= 0:
                bonds.append((at, len(atoms), order))
            elif order > 1:
                return None
            atoms, at, order, fresh = atoms + sign, len(atoms), 1, False
        elif sign in _ORDER and order == 1:
            order, fresh = _ORDER[sign], True
        elif sign == "(" and not fresh:
            opened.append(at)
            fresh = True
        elif sign == ")" and opened and not fresh:
            at = opened.pop()
        else:
            return None
    used = np.zeros(len(atoms), int)
    for one, other, number in bonds:
        used[[one, other]] += number
    complete = atoms and not opened and not fresh
    possible = all(n <= BONDS[atom] for n, atom in zip(used, atoms, strict=True))
    return (atoms, bonds) if complete and possible else None


def worth(string: str) -> float:
    """The score above; -inf if the string is not valid."""
    found = atoms_and_bonds(string)
    if found is None:
        return -np.inf
    atoms, bonds = found
    double = sum(order == 2 for _, _, order in bonds)
    apart = sum(atoms[one] != "C" != atoms[other] for one, other, _ in bonds)
    polar = atoms.count("N") + atoms.count("O")
    return (
        HIGHEST
        - 0.75 * abs(atoms.count("C") - 5)
        - 1.2 * abs(polar - 4)
        - 0.9 * abs(double - 2)
        - 1.5 * apart
    )


def strings(n: int, rng: np.random.Generator) -> list[str]:
    """n different valid strings of up to 8 atoms, in the order in which they were found."""
    found: dict[str, None] = {}
    while len(found) < n:
        found[_chain(int(rng.integers(3, 9)), 4, rng)] = None
    return list(found)


def _chain(atoms: int, give: int, rng: np.random.Generator, hanging: bool = False) -> str:
    """Up to `atoms` atoms, fewer if bonds run out. hanging: from an atom with `give` bonds left."""
    text = ""
    while atoms > 0 and give > 0:
        atom = rng.choice(list(BONDS), p=_FREQUENCIES)
        order = min(int(rng.choice(3, p=(0.78, 0.18, 0.04))) + 1, BONDS[atom], give) if text or hanging else 1
        text += {1: "", 2: "=", 3: "#"}[order] + atom
        give = BONDS[atom] - (order if text != atom or hanging else 0)
        atoms -= 1
        if atoms > 1 and give > 1 and rng.random() < _BRANCHES:
            side = _chain(int(rng.integers(1, 3)), 1, rng, hanging=True)
            text += f"({side})"
            give, atoms = give - 1, atoms - sum(sign in BONDS for sign in side)
    return text
