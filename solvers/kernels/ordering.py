"""A compiled approximate minimum degree ordering, which counts the entries of the factors on the way.

After Amestoy, Davis and Duff (SIAM J. Matrix Anal. Appl. 17, 1996). The graph of what is not eliminated yet is kept as
a quotient graph: eliminating a variable makes an element of it, which stands for the clique of its neighbours and
absorbs the elements beside it. Variables with the same neighbours are merged (supervariables), variables whose
neighbours all lie in the new element are eliminated with it (mass elimination), and elements without a neighbour
outside the new one are absorbed, too (aggressive absorption). Degrees are upper bounds that cost one pass over the
elements of a variable. A row far denser than the others is put last and left out of the graph.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_LARGEST = 2**30  # of the marks that are compared with stamps: they are renewed beyond
_DEAD, _ELEMENT = -1, -2  # in the place of the number of elements beside a variable


@njit(cache=True, nogil=True)
def minimum_degree(indptr, indices, most, order):
    """Order the variables of a symmetric pattern such that its factors have few entries.

    Parameters
    ----------
    indptr, indices : ndarray of int32, shapes (n + 1,) and (nnz,)
        Pattern in CSR without duplicates; diagonal entries are passed over.
    most : float
        Number of entries of L beyond which it gives up.
    order : ndarray of int32, shape (n,), out
        Variables in the order of their elimination, such that each subtree of the elimination tree is contiguous. Not
        written if it gives up.

    Returns
    -------
    entries : float
        Number of entries of L, the diagonal included, those counted so far if it gave up.
    flops : float
        Sum of the squares of their numbers per column.
    complete : bool
        Whether it did not give up.
    """
    n = len(indptr) - 1
    # What is known of a variable or an element lies in one line of the cache.
    table = np.empty((n + 1, 8), np.int32)
    start, length, beside, size = table[:, 0], table[:, 1], table[:, 2], table[:, 3]
    stamp, degree, following, preceding = table[:, 4], table[:, 5], table[:, 6], table[:, 7]
    lists, free = _graph(indptr, indices, start)
    beside[:] = 0  # elements at the front of the list of a variable; or _DEAD, _ELEMENT
    size[:] = 1  # variables that a supervariable or an element stands for; 0: merged into another
    stamp[:] = 1  # 0: absorbed element
    parent = np.full(n + 1, np.int32(-1))
    head = np.full(n + 1, np.int32(-1))  # doubly linked lists of the variables of a degree
    bucket = np.full(n + 1, np.int32(-1))  # singly linked lists of the variables of a hash
    dense = max(16, int(10 * math.sqrt(n)))
    last = 0
    for i in range(n):
        degree[i] = length[i] = start[i + 1] - start[i]
        if degree[i] > dense:  # an order of magnitude above what a factor without zeros would be worth
            beside[i], size[i], parent[i] = _DEAD, 0, n
            last += 1
        elif degree[i] == 0:
            beside[i], stamp[i] = _ELEMENT, 0
        else:
            _insert(i, degree[i], head, following, preceding)
    beside[n], stamp[n], size[n], length[n] = _ELEMENT, 0, 0, 0
    eliminated = last
    entries = flops = 0.0
    for i in range(n):
        if size[i] and beside[i] == _ELEMENT:
            entries, flops, eliminated = entries + 1 + last, flops + (1.0 + last) ** 2, eliminated + 1
    entries, flops = entries + last * (last + 1) / 2, flops + last * (last + 1.0) * (2 * last + 1) / 6
    mark, widest, least = np.int64(2), 0, 0
    while eliminated < n:
        while head[least] < 0:
            least += 1
        k = head[least]
        head[least] = following[k]
        if following[k] >= 0:
            preceding[following[k]] = -1
        near = beside[k]
        if near > 0 and free + least >= len(lists):
            free = _compress(n, start, length, beside, stamp, lists, free)
        eliminated += size[k]
        # The new element: the variables of the list of k and of the elements beside it, each once.
        begin = start[k] if near == 0 else free
        end, own, total = begin, size[k], 0
        size[k] = -own
        at = start[k]
        for turn in range(near + 1):
            if turn < near:
                e = lists[at]
                at += 1
                source, count = start[e], length[e]
            else:
                e, source, count = k, at, length[k] - near
            for f in range(source, source + count):
                i = lists[f]
                if size[i] > 0:
                    total += size[i]
                    size[i] = -size[i]
                    lists[end] = i
                    end += 1
                    _remove(i, degree[i], head, following, preceding)
            if e != k:
                parent[e], stamp[e] = k, 0
        if near:
            free = end
        start[k], length[k], beside[k], degree[k] = begin, end - begin, _ELEMENT, total
        # stamp[e] - mark <- the number of variables of the element e that are not in the new one.
        for f in range(begin, end):
            i = lists[f]
            for g in range(start[i], start[i] + beside[i]):
                e = lists[g]
                if stamp[e] >= mark:
                    stamp[e] += size[i]
                elif stamp[e]:
                    stamp[e] = degree[e] + mark + size[i]
        for f in range(begin, end):
            i = lists[f]
            gone = _update(
                i, k, mark, start, length, beside, size, stamp, parent, degree, lists, bucket, following, preceding
            )
            total -= gone
            own += gone
            eliminated += gone
        degree[k] = total
        widest = max(widest, total)
        mark += widest
        if mark > _LARGEST:
            for i in range(n + 1):
                stamp[i] = min(stamp[i], 1)
            mark = np.int64(2)
        for f in range(begin, end):
            i = lists[f]
            if size[i] < 0:
                mark = _merge(i, mark, start, length, beside, size, stamp, parent, lists, bucket, following, preceding)
        # Variables that remain return to the lists of degrees.
        end = begin
        for f in range(begin, begin + length[k]):
            i = lists[f]
            if size[i] < 0:
                size[i] = -size[i]
                degree[i] = min(degree[i] + total - size[i], n - eliminated - size[i])
                _insert(i, degree[i], head, following, preceding)
                least = min(least, degree[i])
                lists[end] = i
                end += 1
        size[k], length[k] = own, end - begin
        if end == begin:
            stamp[k] = 0
        if near:
            free = end
        rows = float(total + last)
        entries += own * rows + own * (own + 1) / 2
        flops += own * rows * rows + rows * own * (own + 1.0) + own * (own + 1.0) * (2 * own + 1) / 6
        if entries > most:
            return entries, flops, False
    _postorder(n, parent, size, head, following, order)
    return entries, flops, True


@njit(cache=True, nogil=True)
def _graph(indptr, indices, start):
    """Write where lists begin; return the lists, the pattern without its diagonal, and where free space begins."""
    n = len(indptr) - 1
    lists = np.empty(len(indices) + len(indices) // 5 + n, np.int32)
    free = 0
    for i in range(n):
        start[i] = free
        for e in range(indptr[i], indptr[i + 1]):
            if indices[e] != i:
                lists[free] = indices[e]
                free += 1
    start[n] = free
    return lists, free


@njit(cache=True, nogil=True, inline="always")
def _insert(i, degree, head, following, preceding):
    """Put the variable i in front of those of its degree."""
    other = head[degree]
    following[i], preceding[i] = other, -1
    if other >= 0:
        preceding[other] = i
    head[degree] = i


@njit(cache=True, nogil=True, inline="always")
def _remove(i, degree, head, following, preceding):
    """Take the variable i out of the list of its degree."""
    before, after = preceding[i], following[i]
    if after >= 0:
        preceding[after] = before
    if before >= 0:
        following[before] = after
    else:
        head[degree] = after


@njit(cache=True, nogil=True)
def _compress(n, start, length, beside, stamp, lists, free):
    """Move the lists that are in use to the front; return where free space begins."""
    for i in range(n):
        if beside[i] != _DEAD and stamp[i]:  # its first entry makes way for its number
            at = start[i]
            start[i] = lists[at]
            lists[at] = -i - 1
    end, at = 0, 0
    while at < free:
        i = -lists[at] - 1
        at += 1
        if i >= 0:
            lists[end] = start[i]
            start[i] = end
            end += 1
            for _ in range(length[i] - 1):
                lists[end] = lists[at]
                end += 1
                at += 1
    return end


@njit(cache=True, nogil=True, inline="always")
def _update(i, k, mark, start, length, beside, size, stamp, parent, degree, lists, bucket, following, preceding):
    """Bring list and degree of the variable i of the new element k up to date, and put it into the bucket of its hash.

    Returns the number of variables that are eliminated together with k: those of i, if it has no other neighbours.
    """
    n = len(bucket) - 1
    begin, end = start[i], start[i]
    bound, hashed = 0, 0
    for f in range(begin, begin + beside[i]):
        e = lists[f]
        if stamp[e]:
            outside = stamp[e] - mark
            if outside > 0:
                bound += outside
                lists[end] = e
                end += 1
                hashed += e
            else:
                parent[e], stamp[e] = k, 0
    first = end
    for f in range(begin + beside[i], begin + length[i]):
        j = lists[f]
        if size[j] > 0:
            bound += size[j]
            lists[end] = j
            end += 1
            hashed += j
    if bound == 0:
        gone = -size[i]
        parent[i], size[i], beside[i] = k, 0, _DEAD
        return gone
    degree[i] = min(degree[i], bound)
    lists[end] = lists[first]
    lists[first] = lists[begin]
    lists[begin] = k
    beside[i], length[i] = first - begin + 1, end - begin + 1
    hashed %= n
    following[i], bucket[hashed], preceding[i] = bucket[hashed], i, hashed
    return 0


@njit(cache=True, nogil=True, inline="always")
def _merge(i, mark, start, length, beside, size, stamp, parent, lists, bucket, following, preceding):
    """Merge variables of the bucket of i that have the same lists; return a mark that no stamp reaches."""
    hashed = preceding[i]
    i = bucket[hashed]
    bucket[hashed] = -1
    while i >= 0 and following[i] >= 0:
        for f in range(start[i] + 1, start[i] + length[i]):
            stamp[lists[f]] = mark
        before, j = i, following[i]
        while j >= 0:
            same = length[j] == length[i] and beside[j] == beside[i]
            f = start[j] + 1
            while same and f < start[j] + length[j]:
                same = stamp[lists[f]] == mark
                f += 1
            if same:
                parent[j] = i
                size[i] += size[j]
                size[j], beside[j] = 0, _DEAD
                following[before] = following[j]
            else:
                before = j
            j = following[j]
        i = following[i]
        mark += 1
    return mark


@njit(cache=True, nogil=True)
def _postorder(n, parent, size, child, sibling, order):
    """Write variables such that each comes after its children, those merged into it last among them."""
    child[:] = -1
    for merged in (True, False):
        for i in range(n - 1, -1, -1):
            if (size[i] == 0) == merged and parent[i] >= 0:
                sibling[i] = child[parent[i]]
                child[parent[i]] = i
    stack = np.empty(n + 1, np.int32)
    k = 0
    for root in range(n + 1):
        if parent[root] >= 0:
            continue
        top = 0
        stack[0] = root
        while top >= 0:
            i = stack[top]
            if child[i] >= 0:
                top += 1
                stack[top] = child[i]
                child[i] = sibling[child[i]]
            else:
                top -= 1
                if i < n:
                    order[k] = i
                    k += 1
