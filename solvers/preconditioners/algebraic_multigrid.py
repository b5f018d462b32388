"""Algebraic multigrid for matrices with no grid behind them: smoothed aggregation and Ruge-Stueben.

PyAMG builds the hierarchy (Bell, Olson, Schroder and Southworth, Journal of Open Source Software 8, 2023); the cycle is
compiled here. Every level is scaled to unit diagonal, which makes float32 safe and divisions needless, and smoothing is
Gauss-Seidel, forwards before and backwards after the coarse correction, which makes the V-cycle symmetric. A forward
sweep from zero reads the lower triangle alone and leaves the residual -U x: a cycle reads each level's matrix twice.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.kernels import csr

Vector = NDArray[np.floating[Any]]

_DENSE = 1000  # unknowns at most of a coarsest level that is solved by its pseudo-inverse


class AlgebraicMultigrid:
    symmetric = True

    def __init__(
        self, A: sp.csr_array, method: Literal["auto", "sa", "rs"] = "auto", B: NDArray[np.floating[Any]] | None = None, dtype=np.float32
    ) -> None:
        import pyamg
        import time
        T=[time.perf_counter()]
        if method == "auto":
            method = "sa"
        self.name = f"pyamg-{method}"
        A = sp.csr_array((A.data, A.indices.astype(np.int32, copy=False), A.indptr.astype(np.int32, copy=False)), shape=A.shape)
        d = A.diagonal()
        v = 1/np.sqrt(d)
        one = A.data.sum()/d.sum()
        two = v@(A@v)/v.size
        self.rq = one, two
        if two < 0.5*one:
            SAS = sp.csr_array((A.data*np.repeat(v,np.diff(A.indptr))*v[A.indices], A.indices, A.indptr), shape=A.shape)
        else:
            v, SAS = None, A
        T.append(time.perf_counter())
        if B is not None and v is not None: B = B / v[:, None]
        state = np.random.get_state()  # noqa: NPY002
        try:
            np.random.seed(0)  # noqa: NPY002
            kw = dict(presmoother=None, postsmoother=None, coarse_solver=None, max_coarse=150)
            if method == "sa": h = pyamg.smoothed_aggregation_solver(SAS, B=B, **kw)
            else: h = pyamg.ruge_stuben_solver(SAS, **kw)
        finally:
            np.random.set_state(state)  # noqa: NPY002
        T.append(time.perf_counter())
        self.levels = []
        self.sizes=[l.A.shape[0] for l in h.levels]
        scale = 1/np.sqrt(h.levels[0].A.diagonal())
        self.scale = scale if v is None else scale*v
        for fine, coarse in zip(h.levels, h.levels[1:]):
            Af = sp.csr_array(fine.A)
            P = sp.csr_array(fine.P)
            nxt = 1/np.sqrt(coarse.A.diagonal())
            P = sp.csr_array(((P.data/np.repeat(scale, np.diff(P.indptr))*nxt[P.indices]).astype(dtype), P.indices, P.indptr), shape=P.shape)
            self.levels.append((*triangles(Af, scale, dtype), (P.indptr, P.indices, P.data), np.zeros(Af.shape[0],dtype), np.zeros(Af.shape[0],dtype)))
            scale = nxt
        Ac = h.levels[-1].A.toarray()*scale[:,None]*scale
        w, Q = np.linalg.eigh(Ac)
        keep = w > 1e-12*w[-1]
        self.pinv = (Q[:,keep]/w[keep])@Q[:,keep].T
        self.bc, self.xc = np.zeros((2,Ac.shape[0]))
        T.append(time.perf_counter())
        self.T=np.diff(T)

    def zeros(self) -> Vector:
        return np.zeros(self.scale.size)

    def apply(self, r, q, z):
        size = csr.scaled_maximum(self.scale, r)
        if size==0: size=1.
        L, U, P, b, x = self.levels[0]
        csr.scale_down(1/size, self.scale, r, b)
        for l, (L, U, P, b, x) in enumerate(self.levels):
            csr.forward_from_zero(*L, b, x)
            csr.restrict_residual(*U, x, *P, self.levels[l+1][3] if l+1<len(self.levels) else self.bc)
        np.matmul(self.pinv, self.bc, out=self.xc)
        e = self.xc
        for (L, U, P, b, x) in reversed(self.levels):
            csr.prolong_add(*P, e, x)
            csr.backward(*L, *U, b, x)
            e = x
        return csr.scale_up(size, self.scale, e, r, q, z)

def triangles(A, scale, dtype):
    n=A.shape[0]
    l=np.empty(n+1,np.int32); u=np.empty(n+1,np.int32)
    csr.count_triangles(A.indptr,A.indices,l,u)
    li=np.empty(l[-1],np.int32); ui=np.empty(u[-1],np.int32); ld=np.empty(l[-1],dtype); ud=np.empty(u[-1],dtype)
    csr.split_triangles(A.indptr,A.indices,A.data,scale,l,li,ld,u,ui,ud)
    return (l,li,ld),(u,ui,ud)
