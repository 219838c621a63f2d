"""Filters known by their names, and which bands to show in which colour."""

from __future__ import annotations

import re

from skytwin.errors import unknown

__all__ = ["colour_channels", "wavelength_nm"]

# Only the order matters, so surveys that share a filter's name share a number (nm).
_WAVELENGTH_NM = {
    "fuv": 153, "nuv": 231, "u": 355, "b": 440, "blue": 445, "g": 480, "v": 550, "green": 551,
    "r": 622, "r2": 622, "red": 640, "vis": 715, "i": 763, "i2": 763, "z": 905, "y": 1000,
    "j": 1235, "h": 1650, "ks": 2150, "k": 2190, "w1": 3350, "ch1": 3550, "irac1": 3550,
    "ch2": 4490, "irac2": 4490, "w2": 4600, "ch3": 5730, "irac3": 5730, "ch4": 7870,
    "irac4": 7870, "w3": 11560, "w4": 22090,
}  # fmt: skip
_JWST = re.compile(
    r"f(200w|210m|212n|250m|277w|300m|322w2|323n|335m|356w|360m|405n|410m|430m|444w|460m|466n|"
    r"470n|480m|560w|770w)"
)
_SPACE_FILTER = re.compile(r"f(\d{3,4})(?:w2?|m|n|x|lp)")


def wavelength_nm(name: str) -> float | None:
    """Rough wavelength in nm of a filter known by its name; None of any other."""
    for word in reversed(re.findall(r"[a-z0-9]+", name.lower())):
        if word in _WAVELENGTH_NM:
            return _WAVELENGTH_NM[word]
        if found := _SPACE_FILTER.fullmatch(word):
            number = int(found[1])
            # Hubble counts nm in the optical and 10 nm in the infrared, Webb always 10 nm.
            tens = number < 200 or number >= 1000 or _JWST.fullmatch(word)
            return float(number * 10 if tens else number)
    return None


def colour_channels(
    bands: tuple[str, ...], wanted: tuple[str, ...] | None, picture: bool
) -> list[int]:
    """Which channels to show, the reddest first; the rule is told in `display.to_rgb`.

    Parameters
    ----------
    bands : tuple of str
        Every channel's name.
    wanted : tuple of str or None
        Those asked for.
    picture : bool
        Channels in the order of pictures: red, green, blue.
    """
    if wanted is not None:
        for name in wanted:
            if name not in bands:
                raise unknown("band", name, bands)
        return [bands.index(name) for name in wanted]
    waves = [wavelength_nm(name) for name in bands]
    known = [wave for wave in waves if wave is not None]
    if len(known) == len(bands):
        order = sorted(range(len(bands)), key=lambda i: -known[i])
    else:
        order = list(range(len(bands)) if picture else reversed(range(len(bands))))
    if len(order) <= 3:
        return order
    classic = [_WAVELENGTH_NM[name] for name in "irg"]
    if all(wave in waves for wave in classic):
        return [waves.index(wave) for wave in classic]
    return [order[0], order[(len(order) - 1) // 2], order[-1]]
