"""Names that users write: arguments of their functions, which bind by name, and axes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def bound(f: Callable[..., Any], known: Mapping[str, Any], what: str) -> Any:
    """Call a function with the arguments that it names.

    Parameters
    ----------
    f : callable
        A function with named arguments, in any order. Those that are not known keep their defaults.
    known : mapping of str to object
        The values that can be asked for, by name.
    what : str
        What the function is, in messages.

    Returns
    -------
    object
        What the function returns.

    Raises
    ------
    TypeError
        If `f` is no function.
    ValueError
        If it has an argument without a default that is not known, or its arguments cannot be found out.

    Examples
    --------
    >>> from deepcd.pde.regions.binding import bound
    >>> bound(lambda y, x, scale=10: scale * (y - x), {"x": 1, "y": 3}, "phi")
    20
    >>> bound(lambda x, z: x + z, {"x": 1, "y": 3}, "phi")
    Traceback (most recent call last):
        ...
    ValueError: phi has an argument 'z', which is none of x, y
    """
    if not callable(f):
        raise TypeError(f"{what} must be a function of {listed(known)}, got {f!r}")
    try:
        parameters = inspect.signature(f).parameters.values()
    except ValueError:
        raise ValueError(f"{what} does not tell the names of its arguments: wrap it, as in lambda x: f(x)") from None
    unnamed: list[Any] = []
    named: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.name not in known and parameter.default is parameter.empty:
            raise ValueError(f"{what} has an argument {parameter.name!r}, which is none of {listed(known)}")
        value = known.get(parameter.name, parameter.default)
        if parameter.kind is parameter.POSITIONAL_ONLY:
            unnamed.append(value)
        else:
            named[parameter.name] = value
    return f(*unnamed, **named)


def coordinates(axes: Sequence[str], values: Iterable[Any]) -> dict[str, Any]:
    """Return what functions may ask for by the names of axes.

    In space of many dimensions, names one by one are clumsy. An argument ``x`` therefore stands for the tuple of all
    coordinates but "t", unless an axis has this name.

    Parameters
    ----------
    axes : sequence of d str
        The names of the coordinates.
    values : iterable of d objects
        The coordinates: tensors, expressions, or whatever the function is to get.

    Returns
    -------
    dict of str to object

    Examples
    --------
    >>> from deepcd.pde.regions.binding import bound, coordinates
    >>> bound(lambda t, x: t * sum(xi**2 for xi in x), coordinates(("t", "x1", "x2"), (10, 3, 4)), "the solution")
    250
    """
    known = dict(zip(axes, values, strict=True))
    space = tuple(value for axis, value in known.items() if axis != "t")
    return {**known, "x": space} if space and "x" not in known else known


def tested(test: Callable[..., Any], axes: Sequence[str], x: Tensor) -> Tensor:
    """Ask a test whose arguments name coordinates about points.

    Parameters
    ----------
    test : callable
        Maps coordinates, float64 of shape (n,) each, to bool of shape (n,).
    axes : sequence of d str
        The names of the coordinates.
    x : Tensor of float64, shape (n, d)
        The points.

    Returns
    -------
    Tensor of bool, shape (n,)

    Raises
    ------
    ValueError
        If the test has an argument that is none of the axes, or returns anything else.

    Examples
    --------
    >>> import torch
    >>> from deepcd.pde.regions.binding import tested
    >>> tested(lambda y: y > 0, ("x", "y"), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    tensor([ True, False])
    """
    result = bound(test, coordinates(axes, x.T), "the test of where")
    if not isinstance(result, Tensor) or result.dtype != torch.bool or result.shape != x.shape[:1]:
        raise ValueError(
            f"the test of where must return a bool per point, a tensor of shape ({len(x)},), got {result!r:.80}"
        )
    return result


def axis_names(axes: str | Sequence[str], count: int) -> tuple[str, ...]:
    """Return names of axes, which are given as a string of letters or one by one.

    Parameters
    ----------
    axes : str or sequence of str
        Such as "xy" or ("x1", "x2").
    count : int
        How many there have to be.

    Returns
    -------
    tuple of str

    Raises
    ------
    ValueError
        If they are not so many different names.

    Examples
    --------
    >>> from deepcd.pde.regions.binding import axis_names
    >>> axis_names("xy", 2)
    ('x', 'y')
    """
    names = tuple(axes)
    if (
        len(names) != count
        or len(set(names)) != count
        or not all(isinstance(a, str) and a.isidentifier() for a in names)
    ):
        raise ValueError(f"axes must be {count} different names, such as {'xyz'[:count]!r}, got {axes!r}")
    return names


def listed(names: Iterable[object]) -> str:
    """Return names for a message: one after the other, or "none"."""
    return ", ".join(map(str, names)) or "none"
