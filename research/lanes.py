"""Loops over the bars of a trade as vectors, eight bars wide to the last one.

A trade lasts some twenty bars. The compiler's own vector code takes sixteen at a time and leaves the rest to a loop of
single bars, a division each; that was a third of a search. Here lanes behind the last bar add nothing, and two bars
share a division: a/b and c/d are a*d and c*b over b*d. Sums are taken in another order than bar by bar, which shows
in the last digits. An array must be readable `LANES` places beyond the last bar that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_intrinsic: Any = intrinsic  # its types do not know that the first argument is the compiler's own

LANES: Final = 8
_WIDE: Final = LANES // 2  # of one vector; every turn takes two
_DOUBLE: Final = ir.DoubleType()
_INT: Final = ir.IntType(64)
_DOUBLES: Final = ir.VectorType(_DOUBLE, _WIDE)
_INTS: Final = ir.VectorType(_INT, _WIDE)
_PLACES: Final = ir.Constant(_INTS, list(range(_WIDE)))


@_intrinsic
def sums_of_returns(_typing: Any, curve: Any, first: Any, last: Any, away: Any) -> Any:
    """Sum of the returns of the bars [first, last), of their squares, and of the losses' squares.

    A bar's return is the change of `curve` (float64) over the value before it plus `away`. first >= 1.
    """
    signature = types.UniTuple(types.float64, 3)(curve, types.uint64, types.uint64, types.float64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        array, first, last, away = arguments
        data = context.make_array(signature.args[0])(context, builder, array).data
        shift, ones, none = _everywhere(builder, away), _constant(1.0), _constant(0.0)

        def turn(at: Any, sums: Sequence[Any]) -> list[Any]:
            changes, levels, added = [], [], []
            for place, counts in _halves(builder, at, last):
                was, now = (_load(builder, data, builder.add(place, ir.Constant(_INT, back))) for back in (-1, 0))
                changes.append(builder.select(counts, builder.fsub(now, was), none))
                levels.append(builder.select(counts, builder.fadd(was, shift), ones))
            inverse = builder.fdiv(ones, builder.fmul(*levels))
            for half, (total, squares, falls) in enumerate((sums[:3], sums[3:])):
                change = builder.fmul(builder.fmul(changes[half], levels[1 - half]), inverse)
                fall = builder.select(builder.fcmp_ordered("<", change, none), change, none)
                added += [builder.fadd(total, change)]
                added += [_fused(builder, each, each, sum_) for each, sum_ in ((change, squares), (fall, falls))]
            return added

        sums = _walk(builder, first, last, [none] * 6, turn)
        both = [builder.fadd(one, other) for one, other in zip(sums[:3], sums[3:], strict=True)]
        return context.make_tuple(builder, signature.return_type, [_folded(builder, each, "fadd") for each in both])

    return signature, generate


@_intrinsic
def extremes(_typing: Any, curve: Any, first: Any, last: Any) -> Any:
    """The lowest and the highest of `curve` (float64) in [first, last); infinite where that is empty."""
    signature = types.UniTuple(types.float64, 2)(curve, types.uint64, types.uint64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        array, first, last = arguments
        data = context.make_array(signature.args[0])(context, builder, array).data
        most, least = _constant(float("inf")), _constant(float("-inf"))

        def turn(at: Any, found: Sequence[Any]) -> list[Any]:
            better = []
            for (place, counts), low, high in zip(_halves(builder, at, last), found[::2], found[1::2], strict=True):
                now = _load(builder, data, place)
                for known, sign, nothing in ((low, "<", most), (high, ">", least)):
                    value = builder.select(counts, now, nothing)
                    better.append(builder.select(builder.fcmp_ordered(sign, value, known), value, known))
            return better

        found = _walk(builder, first, last, [most, least] * 2, turn)
        low, high = (
            builder.select(builder.fcmp_ordered(sign, found[each], found[each + 2]), found[each], found[each + 2])
            for each, sign in ((0, "<"), (1, ">"))
        )
        both = [_folded(builder, low, "fmin"), _folded(builder, high, "fmax")]
        return context.make_tuple(builder, signature.return_type, both)

    return signature, generate


def _walk(
    builder: Any, first: Any, last: Any, starts: Sequence[Any], turn: Callable[[Any, Sequence[Any]], list[Any]]
) -> list[Any]:
    """`for at in range(first, last, LANES): found = turn(at, found)`."""
    before, body, after = builder.block, builder.append_basic_block("bars"), builder.append_basic_block("done")
    builder.cbranch(builder.icmp_unsigned("<", first, last), body, after)

    builder.position_at_end(body)
    at, found = builder.phi(_INT), [builder.phi(each.type) for each in starts]
    made = turn(at, found)
    following = builder.add(at, ir.Constant(_INT, LANES))
    builder.cbranch(builder.icmp_unsigned("<", following, last), body, after)
    for phi, start, next_ in zip([at, *found], [first, *starts], [following, *made], strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(next_, body)

    builder.position_at_end(after)
    results = [builder.phi(each.type) for each in starts]
    for phi, start, next_ in zip(results, starts, made, strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(next_, body)
    return results


def _halves(builder: Any, at: Any, last: Any) -> list[tuple[Any, Any]]:
    """Where the two vectors of a turn begin, and which of their lanes lie before the last bar."""
    ends, halves = _everywhere(builder, last), []
    for half in range(2):
        place = builder.add(at, ir.Constant(_INT, half * _WIDE))
        lanes = builder.add(_everywhere(builder, place), _PLACES)
        halves.append((place, builder.icmp_unsigned("<", lanes, ends)))
    return halves


def _load(builder: Any, data: Any, place: Any) -> Any:
    return builder.load(builder.bitcast(builder.gep(data, [place]), _DOUBLES.as_pointer()), align=8)


def _constant(value: float) -> Any:
    return ir.Constant(_DOUBLES, [value] * _WIDE)


def _everywhere(builder: Any, value: Any) -> Any:
    """The value in every lane."""
    nothing, zero = ir.Constant(ir.VectorType(value.type, _WIDE), ir.Undefined), ir.IntType(32)(0)
    one = builder.insert_element(nothing, value, zero)
    return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(ir.IntType(32), _WIDE), [0] * _WIDE))


def _fused(builder: Any, one: Any, other: Any, added: Any) -> Any:
    """one * other + added, rounded once where the processor can."""
    kind = ir.FunctionType(_DOUBLES, [_DOUBLES] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{_WIDE}f64")
    return builder.call(function, [one, other, added])


def _folded(builder: Any, vector: Any, how: str) -> Any:
    """The lanes of a vector as one number: how is fadd, fmin or fmax; none of them is NaN."""
    start = [ir.Constant(_DOUBLE, 0.0)] if how == "fadd" else []
    kind = ir.FunctionType(_DOUBLE, [_DOUBLE] * len(start) + [_DOUBLES])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.{how}.v{_WIDE}f64")
    return builder.call(function, [*start, vector], fastmath=("reassoc", "nsz", "nnan"))
