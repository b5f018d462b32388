"""Compiled elimination of a weighted graph with sampled cliques: approximate Cholesky factors.

A matrix A = D - W + diag(g) with weights W >= 0, row sums g >= 0 and the diagonal D of row sums of W is the Laplacian
of a graph with a further vertex, the ground, which g leads to. Eliminating vertex i with neighbours of weights w_j,
which sum to s with the ground's, leaves a clique of weights w_j w_k / s; here a tree is sampled whose mean is that
clique (Gao, Kyng and Spielman, "Robust and practical solution of Laplacian equations by approximate elimination",
2023): with neighbours in ascending order of weight, j is joined to a k behind it, drawn in proportion to w_k, by an
edge of weight w_j t / s, t being the weights behind j. Three things are done without sampling, since they make no more
edges: what leads to the ground, cliques of few vertices, and a neighbour with no more others behind it than it draws.
Every number is positive and none is ever subtracted, so that weights over many decades keep their digits.

The order is that of the least degree, edges between the same two vertices counted one by one. Of those whose degree was
lowered to the same number, the last comes first: it is near what was just eliminated, in memory as in the graph.

The graph in memory: each vertex has a record of 32 bytes and a list of edges of 16 bytes, a weight and a code, which
is 2 v for the neighbour v, or 2 v + 1 if the edge counts for two samples. Edges to what has been eliminated stay in a
list until it is full; then it is cleared of them, and moved to the end of the arena if it is almost full still. Arrays
have two views, of int32 and of float64. Indices are unsigned inside the loops, and `eliminate` makes no arrays, whose
references would be counted there: it returns where one is too small, and goes on with a larger one.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Fields of a vertex's record in int32: where its list begins, its edges, those that there is room for, its degree, and
# its place among the neighbours of the vertex at hand, or one of two states; the fourth float64 leads to the ground.
FIELDS, START, COUNT, ROOM, DEGREE, PLACE = (np.uint64(k) for k in (8, 0, 1, 2, 3, 4))
FREE, GONE = -1, -2
ONE, TWO, THREE, FOUR = (np.uint64(k) for k in (1, 2, 3, 4))
# What `state` holds: vertices eliminated; ends of the arena, of the columns and of the cells; the first spare cell; the
# lowest bucket that may be occupied; numbers drawn; edges of the last clique, and the ends of them that are in lists;
# positive entries that were left out, and negative row sums that were taken to be zero.
DONE, END, USED, TOP, SPARE, LOWEST, DRAWN, EDGES, JOINED, LUMPED, CLIPPED = range(11)
STATES, BUCKETS = 11, 320
# Why `eliminate` returns.
FINISHED, ARENA_FULL, COLUMNS_FULL, CELLS_FULL = range(4)
SLACK = 4  # edges that a list has room for beyond those of the matrix
EXACT = 4  # largest number of neighbours whose clique is not sampled


@njit(cache=True, nogil=True)
def bucket(degree):
    """Return where vertices of a degree are queued: each has its own bucket up to 63, eight per octave beyond."""
    if degree < 64:
        return degree
    octave = 3
    while (degree >> octave) >= 16:
        octave += 1
    return 40 + 8 * octave + (degree >> octave) - 8


@njit(cache=True, nogil=True)
def read(indptr, indices, data, eps, copies, records, grounds, arena, weights, diagonal, state):
    """Fill the records and lists with the graph of a matrix in CSR.

    A positive off-diagonal entry is added to both diagonal entries and left out, so that row sums stay. A row sum that
    rounding explains is zero, and so is a negative one.

    Parameters
    ----------
    indptr, indices, data
        The matrix, without duplicates.
    eps : float
        Unit roundoff that the entries carry.
    copies : {1, 2}
        Number of samples that an edge of the matrix counts for.
    records, grounds : ndarray of int32, shape (8 n,), and the same memory as float64
    arena, weights : ndarray of int32, shape (4 m,), m >= nnz + SLACK n, and the same memory as float64
    diagonal : ndarray of float64, shape (n,)
        Set to the diagonal entries, with what was added.
    state : ndarray of int64, shape (STATES,)
        END, LUMPED and CLIPPED are set.
    """
    end, lumped, clipped = np.uint64(0), 0, 0
    for i in range(np.uint64(indptr.size - 1)):
        total, size, own, count = 0.0, 0.0, 0.0, np.uint64(0)
        first, last = np.uint64(indptr[i]), np.uint64(indptr[i + ONE])
        for e in range(first, last):
            total += data[e]
            size += abs(data[e])
            if np.uint64(indices[e]) == i:
                own += data[e]
            elif data[e] > 0.0:
                own += data[e]
                lumped += 1
            elif data[e] < 0.0:
                weights[TWO * (end + count)] = -data[e]
                arena[FOUR * (end + count) + TWO] = 2 * indices[e] + copies - 1
                count += ONE
        diagonal[i] = own
        record = FIELDS * i
        records[record + START], records[record + PLACE] = end, FREE
        records[record + COUNT] = records[record + DEGREE] = count
        records[record + ROOM] = count + np.uint64(SLACK)
        rounding = eps * np.float64(last - first) * size
        grounds[FOUR * i + THREE] = total if total > rounding else 0.0
        clipped += total < -rounding
        end += count + np.uint64(SLACK)
    state[END], state[LUMPED], state[CLIPPED] = end, lumped, clipped


@njit(cache=True, nogil=True)
def enqueue(vertex, place, queue, cells, state):
    """Put a vertex at the head of a bucket."""
    cell = state[SPARE]
    if cell < 0:
        cell = state[TOP]
        state[TOP] += 1
    else:
        state[SPARE] = cells[2 * cell + 1]
    cells[2 * cell], cells[2 * cell + 1] = vertex, queue[place]
    queue[place] = cell
    state[LOWEST] = min(state[LOWEST], place)


@njit(cache=True, nogil=True)
def begin(records, queue, cells, state):
    """Queue all vertices, the first one of a degree at the head."""
    queue[:] = -1
    state[SPARE], state[LOWEST] = -1, queue.size
    n = records.size // 8
    for step in range(n):
        i = n - 1 - step
        enqueue(i, bucket(records[FIELDS * np.uint64(i) + DEGREE]), queue, cells, state)


@njit(cache=True, nogil=True)
def least(records, queue, cells, state):
    """Return a vertex of the least degree, at the head of bucket state[LOWEST].

    A vertex whose degree has grown is found in the bucket where it was, and moved only then; one that is queued twice
    is found when it is gone, or with a degree that is too low.
    """
    while True:
        place = state[LOWEST]
        while queue[place] < 0:
            place += 1
        state[LOWEST] = place
        cell = queue[place]
        record = FIELDS * np.uint64(cells[2 * cell])
        now = bucket(records[record + DEGREE])
        if records[record + PLACE] != GONE and now == place:
            return np.uint64(cells[2 * cell])
        queue[place] = cells[2 * cell + 1]
        if records[record + PLACE] == GONE or now < place:
            cells[2 * cell + 1], state[SPARE] = state[SPARE], cell
        else:
            cells[2 * cell + 1], queue[now] = queue[now], cell


@njit(cache=True, nogil=True)
def neighbours(records, arena, weights, i, copies, tags, w):
    """Collect the neighbours of vertex i and what leads to each; return their number.

    A tag is the code of an edge, plus 2^32 times the number of edges to that neighbour.
    """
    first = np.uint64(records[FIELDS * i + START])
    d = np.uint64(0)
    for e in range(first, first + np.uint64(records[FIELDS * i + COUNT])):
        code = np.int64(arena[FOUR * e + TWO])
        record = FIELDS * np.uint64(code >> 1)
        place = records[record + PLACE]
        if place == FREE:
            records[record + PLACE] = d
            tags[d], w[d] = code + (1 << 32), weights[TWO * e]
            d += ONE
        elif place != GONE:
            at = np.uint64(place)
            tags[at] = (tags[at] | (copies - 1)) + (1 << 32)
            w[at] += weights[TWO * e]
    for p in range(d):
        records[FIELDS * vertex(tags[p]) + PLACE] = FREE
    return d


@njit(cache=True, nogil=True)
def vertex(tag):
    """Return the vertex that a tag is of."""
    return np.uint64((tag & 0xFFFFFFFF) >> 1)


@njit(cache=True, nogil=True)
def sort(w, tags, d):
    """Sort the first d neighbours by ascending weight: Shell's method, by mere insertion if they are few."""
    gap = np.uint64(1)
    while d > np.uint64(24) and gap < d // np.uint64(5):
        gap = THREE * gap + ONE
    while gap > np.uint64(0):
        for a in range(gap, d):
            value, tag, b = w[a], tags[a], np.uint64(a)
            while b >= gap and w[b - gap] > value:
                w[b], tags[b] = w[b - gap], tags[b - gap]
                b -= gap
            w[b], tags[b] = value, tag
        gap //= THREE


@njit(cache=True, nogil=True)
def uniform(seed, number):
    """Return number `number` of a sequence in [0, 1): SplitMix64 of Steele, Lea and Flood (OOPSLA 2014)."""
    z = np.uint64(seed) + np.uint64(number) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.float64((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True, nogil=True)
def draw(behind, first, last, share):
    """Return the largest k in first .. last with behind[k] > share, or `first`; `behind` descends."""
    while last - first > np.uint64(16):
        middle = (first + last + ONE) // TWO
        if behind[middle] > share:
            first = middle
        else:
            last = middle - ONE
    while last > first and behind[last] <= share:
        last -= ONE
    return last


@njit(cache=True, nogil=True, error_model="numpy")
def clique(tags, w, behind, d, inverse, copies, seed, state, changes, ends, values):
    """Write the edges that the elimination of a vertex leaves between its d neighbours; return their number.

    Parameters
    ----------
    tags, w, behind, d
        The neighbours in ascending order of their weights, the sums of the weights from each one on, and their number.
    inverse : float
        1 / s.
    copies, seed
        See `eliminate`.
    state
        DRAWN counts the numbers drawn.
    changes : ndarray of int32
        How the degree of each neighbour changes.
    ends, values : ndarray of int64, shape (2, ...), and of float64
        Set to the codes of both ends of each edge and its weight.
    """
    count, last = np.uint64(0), d - ONE
    for p in range(d):
        changes[p] = -(tags[p] >> 32)
    for p in range(last):
        draws, whole = np.uint64(1 + (tags[p] & 1)), last - p
        exact = d <= np.uint64(EXACT) or whole <= draws
        double = copies - 1 if exact else 0
        here, each = vertex(tags[p]), w[p] * inverse * (1.0 if exact else behind[p + ONE] / np.float64(draws))
        for c in range(whole if exact else draws):
            k = p + ONE + c
            if not exact:
                state[DRAWN] += 1
                k = draw(behind, p + ONE, last, uniform(seed, state[DRAWN]) * behind[p + ONE])
            values[count] = each * w[k] if exact else each
            ends[0, count], ends[1, count] = 2 * here + np.uint64(double), 2 * vertex(tags[k]) + np.uint64(double)
            changes[p] += 1
            changes[k] += 1
            count += ONE
    return count


@njit(cache=True, nogil=True)
def make_room(records, arena, weights, record, state):
    """Make room for an edge in a full list; return whether the arena had enough for that."""
    start, live = np.uint64(records[record + START]), np.uint64(records[record + START])
    for e in range(start, start + np.uint64(records[record + COUNT])):
        code = arena[FOUR * e + TWO]
        if records[FIELDS * np.uint64(code >> 1) + PLACE] != GONE:
            weights[TWO * live], arena[FOUR * live + TWO] = weights[TWO * e], code
            live += ONE
    live -= start
    records[record + COUNT] = live
    room = np.uint64(records[record + ROOM])
    if FOUR * live <= THREE * room:
        return True
    room, end = TWO * room, np.uint64(state[END])
    if TWO * (end + room) > np.uint64(weights.size):
        return live < np.uint64(records[record + ROOM])
    for e in range(live):
        weights[TWO * (end + e)] = weights[TWO * (start + e)]
        arena[FOUR * (end + e) + TWO] = arena[FOUR * (start + e) + TWO]
    records[record + START], records[record + ROOM] = end, room
    state[END] = end + room
    return True


@njit(cache=True, nogil=True)
def join(records, arena, weights, ends, values, state):
    """Put the edges of the last clique that are not in the lists yet there; return whether the arena had room."""
    for e in range(np.uint64(state[JOINED]), np.uint64(2 * state[EDGES])):
        edge, side = e // TWO, e % TWO
        record = FIELDS * np.uint64(ends[side, edge] >> 1)
        if records[record + COUNT] == records[record + ROOM] and not make_room(records, arena, weights, record, state):
            state[JOINED] = e
            return False
        at = np.uint64(records[record + START]) + np.uint64(records[record + COUNT])
        weights[TWO * at], arena[FOUR * at + TWO] = values[edge], ends[ONE - side, edge]
        records[record + COUNT] += 1
    state[JOINED] = state[EDGES] = 0
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def column(tags, w, behind, d, inverse, rows, values, used):
    """Write column entries w_j / s of all neighbours but the heaviest; return what is left for that one.

    The entries are rounded to float32, and their sum is not: it says how much of the constant goes to the ground, which
    may be less than what a rounded sum leaves.
    """
    rest = behind[0] * inverse
    for p in range(d - ONE):
        entry = np.float32(w[p] * inverse)
        rows[used + p], values[used + p] = vertex(tags[p]), entry
        rest -= np.float64(entry)
    return rest


@njit(cache=True, nogil=True, error_model="numpy")
def eliminate(
    seed, copies, graph, diagonal, queue, cells, state, work, order, starts, rows, values, heavy, heaviest, inverses
):
    """Eliminate vertices until all are, or until an array is too small; return which.

    Parameters
    ----------
    seed : uint64
        What the samples follow from.
    copies : {1, 2}
        Number of samples that an edge of the matrix counts for.
    graph : tuple
        records, grounds, arena, weights; see `read`.
    diagonal : ndarray of float64, shape (n,)
        The pivot of a vertex that nothing is left to lead from is its diagonal entry.
    queue, cells, state
        See `begin`; cells are pairs of a vertex and the next cell.
    work : tuple
        tags, w, behind, changes, ends, values; room for n + 1 neighbours, and 2 n + 8 edges.
    order : ndarray of int32, shape (n,)
        Set to the vertices as they are eliminated.
    starts, rows, values : ndarray of int64, shape (n + 1,), and of int32 and float32
        Set to the columns of -L without the diagonal and the heaviest entry; rows are vertices.
    heavy, heaviest, inverses : ndarrays of shape (n,), of int32 and float64
        Set to the row and the value of the heaviest entry of each column, and to the inverse pivots. A column without
        entries has a heaviest one of 0 on the diagonal.
    """
    records, grounds, arena, weights = graph
    tags, w, behind, changes, ends, edges = work
    n = order.size
    while True:
        if not join(records, arena, weights, ends, edges, state):
            return ARENA_FULL
        if state[DONE] == n:
            return FINISHED
        i = least(records, queue, cells, state)
        count = records[FIELDS * i + COUNT]
        if state[USED] + count > rows.size:
            return COLUMNS_FULL
        if 2 * (state[TOP] + count) > cells.size:
            return CELLS_FULL
        k = np.uint64(state[DONE])
        state[DONE] += 1
        cell = queue[state[LOWEST]]
        queue[state[LOWEST]] = cells[2 * cell + 1]
        cells[2 * cell + 1], state[SPARE] = state[SPARE], cell
        records[FIELDS * i + PLACE], order[k] = GONE, i
        d, ground = neighbours(records, arena, weights, i, copies, tags, w), grounds[FOUR * i + THREE]
        if d == np.uint64(0):
            heavy[k], heaviest[k], inverses[k] = i, 0.0, 1.0 / (ground if ground > 0.0 else diagonal[i])
            starts[k + ONE] = state[USED]
            continue
        sort(w, tags, d)
        behind[d] = 0.0
        for step in range(d):
            p = d - ONE - step
            behind[p] = behind[p + ONE] + w[p]
        inverse = 1.0 / (behind[0] + ground)
        heaviest[k] = column(tags, w, behind, d, inverse, rows, values, np.uint64(state[USED]))
        heavy[k], inverses[k] = vertex(tags[d - ONE]), inverse
        state[USED] += np.int64(d) - 1
        starts[k + ONE] = state[USED]
        state[EDGES] = clique(tags, w, behind, d, inverse, copies, seed, state, changes, ends, edges)
        for p in range(d):
            record = FIELDS * vertex(tags[p])
            if ground > 0.0:
                grounds[FOUR * vertex(tags[p]) + THREE] += w[p] * (ground * inverse)
            before = bucket(records[record + DEGREE])
            records[record + DEGREE] += changes[p]
            after = bucket(records[record + DEGREE])
            if after < before:
                enqueue(vertex(tags[p]), after, queue, cells, state)
