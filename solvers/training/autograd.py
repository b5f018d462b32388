"""Compiled differentiable grid operations for training: sweeps with face weights, and the grid transfers.

Unrolled iterations spend most of their time here. As torch expressions, a sweep takes a dozen passes over memory
forwards and thirty backwards; as compiled loops it takes one and two. All tensors are float32, contiguous and of shape
(batch, n0, n1, n2), with n1 = 1 in 2D.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels.finest import parents
from deepcd.solvers.kernels.records import taps


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _sweep(shape, diag, w0, w1, w2, x, sign, y):
    """Set y to what `sweep` returns, on flat arrays; a neighbouring row beyond the box is the row itself, times 0."""
    nb, n0, n1, n2 = shape
    one, zero = np.uint64(1), np.uint64(0)
    for row in range(nb * n0 * n1):
        i, j, p = (row // n1) % n0, row % n1, np.uint64(row * n2)
        a = np.uint64(n1 * n2) if i > 0 else zero
        b = np.uint64(n1 * n2) if i < n0 - 1 else zero
        c = np.uint64(n2) if j > 0 else zero
        d = np.uint64(n2) if j < n1 - 1 else zero
        fa = sign if i > 0 else np.float32(0)
        fb = sign if i < n0 - 1 else np.float32(0)
        fc = sign if j > 0 else np.float32(0)
        fd = sign if j < n1 - 1 else np.float32(0)
        for step in range(n2):
            k = p + np.uint64(step)
            y[k] = (
                diag[k] * x[k]
                + (fa * w0[k - a] * x[k - a] + fb * w0[k] * x[k + b])
                + (fc * w1[k - c] * x[k - c] + fd * w1[k] * x[k + d])
            )
        for step in range(n2 - 1):
            k = p + np.uint64(step)
            y[k] += sign * w2[k] * x[k + one]
        for step in range(1, n2):
            k = p + np.uint64(step)
            y[k] += sign * w2[k - one] * x[k - one]


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _sweep_coefficients(shape, x, g, sign, gd, g0, g1, g2):
    """Set gd, g0, g1 and g2 to the gradients of <g, sweep(x)> by the diagonal and the face weights."""
    nb, n0, n1, n2 = shape
    one, zero = np.uint64(1), np.uint64(0)
    for row in range(nb * n0 * n1):
        i, j, p = (row // n1) % n0, row % n1, np.uint64(row * n2)
        b = np.uint64(n1 * n2) if i < n0 - 1 else zero
        d = np.uint64(n2) if j < n1 - 1 else zero
        fb = sign if i < n0 - 1 else np.float32(0)
        fd = sign if j < n1 - 1 else np.float32(0)
        for step in range(n2):
            k = p + np.uint64(step)
            gd[k] = x[k] * g[k]
            g0[k] = fb * (g[k] * x[k + b] + g[k + b] * x[k])
            g1[k] = fd * (g[k] * x[k + d] + g[k + d] * x[k])
        for step in range(n2 - 1):
            k = p + np.uint64(step)
            g2[k] = sign * (g[k] * x[k + one] + g[k + one] * x[k])
        g2[p + np.uint64(n2 - 1)] = 0


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _prolong(e, near, far, z):
    """Set z to P e: per axis, a fine cell takes `near` of its coarse cell and `far` of the next one on its side."""
    nb, m0, m1, m2 = e.shape
    _, n0, n1, n2 = z.shape
    buffer = np.zeros(m2 + 2, dtype=np.float32)
    for b in range(nb):
        for i in range(n0):
            for j in range(n1):
                buffer[:] = 0
                for a in range(2):
                    ci = parents(i)[a]
                    for c in range(2):
                        cj = parents(j)[c]
                        if not (0 <= ci < m0 and 0 <= cj < m1):
                            continue
                        w = (far if a else near)[0] * (far if c else near)[1]
                        row = e[b, ci, cj]
                        for k in range(m2):
                            buffer[k + 1] += w * row[k]
                out = z[b, i, j]
                for k in range(n2):
                    c2 = (k >> 1) + 1
                    out[k] = near[2] * buffer[c2] + far[2] * buffer[c2 + 2 * (k & 1) - 1]


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _restrict(r, near, far, rc):
    """Set rc to P^T r, the adjoint of `_prolong`."""
    nb, n0, n1, n2 = r.shape
    _, m0, m1, m2 = rc.shape
    buffer = np.zeros(m2 + 2, dtype=np.float32)
    rc[:] = 0
    for b in range(nb):
        for i in range(n0):
            for j in range(n1):
                buffer[:] = 0
                row = r[b, i, j]
                for k in range(n2):
                    c2 = (k >> 1) + 1
                    buffer[c2] += near[2] * row[k]
                    buffer[c2 + 2 * (k & 1) - 1] += far[2] * row[k]
                for a in range(2):
                    ci = parents(i)[a]
                    for c in range(2):
                        cj = parents(j)[c]
                        if not (0 <= ci < m0 and 0 <= cj < m1):
                            continue
                        w = (far if a else near)[0] * (far if c else near)[1]
                        out = rc[b, ci, cj]
                        for k in range(m2):
                            out[k] += w * buffer[k + 1]


def _flat(t: torch.Tensor) -> np.ndarray:
    """View a contiguous tensor as a flat array."""
    return t.detach().view(-1).numpy()


class _Sweep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, diag: torch.Tensor, w0: torch.Tensor, w1: torch.Tensor, w2: torch.Tensor, x: torch.Tensor, sign: float
    ) -> torch.Tensor:
        ctx.save_for_backward(diag, w0, w1, w2, x)
        ctx.sign = sign
        y = torch.empty_like(x)
        _sweep(tuple(x.shape), *(_flat(t) for t in (diag, w0, w1, w2, x)), np.float32(sign), _flat(y))
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        g = grads[0].contiguous()
        diag, w0, w1, w2, x = ctx.saved_tensors
        gx = torch.empty_like(x)
        _sweep(tuple(x.shape), *(_flat(t) for t in (diag, w0, w1, w2, g)), np.float32(ctx.sign), _flat(gx))
        if not ctx.needs_input_grad[0] and not ctx.needs_input_grad[1]:
            return None, None, None, None, gx, None
        out = [torch.empty_like(x) for _ in range(4)]
        _sweep_coefficients(tuple(x.shape), _flat(x), _flat(g), np.float32(ctx.sign), *(_flat(t) for t in out))
        return *out, gx, None


def sweep(diag: torch.Tensor, faces: list[torch.Tensor], x: torch.Tensor, sign: float) -> torch.Tensor:
    """Return diag * x + sign * (sum over the neighbours of face weight times x).

    Parameters
    ----------
    diag : Tensor (batch, n0, n1, n2)
    faces : list of three Tensors of the same shape
        Per axis, the weights of the faces between a cell and the next; the last entries along the axis are not read.
    x : Tensor of the same shape
    sign : float

    Returns
    -------
    Tensor of the same shape
    """
    result: torch.Tensor = _Sweep.apply(diag, *faces, x, sign)
    return result


class _Prolong(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, e: torch.Tensor, q: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        ctx.save_for_backward(e, q)
        z = torch.empty((len(e), *shape))
        _prolong(e.detach().numpy(), *taps(float(q), shape), z.numpy())
        return z

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        e, q = ctx.saved_tensors
        g = grads[0].contiguous()
        ge = torch.empty_like(e)
        _restrict(g.numpy(), *taps(float(q), tuple(g.shape[1:])), ge.numpy())
        return ge, _tap_gradient(e, q, g), None


class _Restrict(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, r: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(r, q)
        rc = torch.empty((len(r), *((n + 1) // 2 for n in r.shape[1:])))
        _restrict(r.detach().numpy(), *taps(float(q), tuple(r.shape[1:])), rc.numpy())
        return rc

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        r, q = ctx.saved_tensors
        g = grads[0].contiguous()
        gr = torch.empty_like(r)
        _prolong(g.numpy(), *taps(float(q), tuple(r.shape[1:])), gr.numpy())
        return gr, _tap_gradient(g, q, r)


def _tap_gradient(coarse: torch.Tensor, q: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
    """Return the derivative by q of <fine, P(q) coarse>: for each axis, the taps are replaced by (-1, 1)."""
    shape, total = tuple(fine.shape[1:]), 0.0
    buffer = np.empty(fine.shape, dtype=np.float32)
    for axis, n in enumerate(shape):
        if n > 1:
            near, far = taps(float(q), shape)
            near[axis], far[axis] = -1, 1
            _prolong(coarse.detach().numpy(), near, far, buffer)
            total += float(np.vdot(buffer, fine.detach().numpy()))
    return torch.tensor(total)


def prolong(e: torch.Tensor, q: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Interpolate e (batch, m0, m1, m2) to the fine `shape`, with the taps q, 1 - q, 1 - q, q per axis."""
    result: torch.Tensor = _Prolong.apply(e.contiguous(), q, shape)
    return result


def restrict(r: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Apply the adjoint of `prolong` to r (batch, n0, n1, n2); the length of each axis is halved and rounded up."""
    result: torch.Tensor = _Restrict.apply(r.contiguous(), q)
    return result


@njit(cache=True, nogil=True, fastmath=FAST)
def _face_image(s0, s1, w0, w1, w2, extra, x, y):
    """y <- A x, in differences."""
    s0, s1, one = np.uint64(s0), np.uint64(s1), np.uint64(1)
    for h in range(s0, np.uint64(x.size) - s0):
        v = x[h]
        total = extra[h] * v + w0[h] * (v - x[h + s0]) + w0[h - s0] * (v - x[h - s0])
        total += w1[h] * (v - x[h + s1]) + w1[h - s1] * (v - x[h - s1])
        y[h] = total + w2[h] * (v - x[h + one]) + w2[h - one] * (v - x[h - one])


@njit(cache=True, nogil=True, fastmath=FAST)
def _face_gradient(s0, s1, x, g, g0, g1, g2, g3):
    """Set the derivatives of g.A x with respect to the weights and the extra diagonal."""
    s0, s1, one = np.uint64(s0), np.uint64(s1), np.uint64(1)
    for h in range(np.uint64(x.size) - s0):
        v, u = x[h], g[h]
        g0[h] = (v - x[h + s0]) * (u - g[h + s0])
        g1[h] = (v - x[h + s1]) * (u - g[h + s1])
        g2[h] = (v - x[h + one]) * (u - g[h + one])
        g3[h] = v * u


class _FaceImage(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        s: tuple[int, int],
        w0: torch.Tensor,
        w1: torch.Tensor,
        w2: torch.Tensor,
        extra: torch.Tensor,
        x: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(w0, w1, w2, extra, x)
        ctx.s = s
        y = torch.zeros_like(x)
        _face_image(*s, *(v.detach().numpy() for v in (w0, w1, w2, extra, x, y)))
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        w0, w1, w2, extra, x = ctx.saved_tensors
        g, out = gradients[0].contiguous(), torch.zeros_like(x)
        _face_image(*ctx.s, *(v.detach().numpy() for v in (w0, w1, w2, extra, g, out)))
        if not ctx.needs_input_grad[4]:
            return None, None, None, None, None, out
        own = [torch.zeros_like(x) for _ in range(4)]
        _face_gradient(*ctx.s, x.detach().numpy(), g.numpy(), *(v.numpy() for v in own))
        return None, own[0], own[1] if ctx.s[1] else None, own[2], own[3], out


def face_image(
    s: tuple[int, int], w0: torch.Tensor, w1: torch.Tensor, w2: torch.Tensor, extra: torch.Tensor, x: torch.Tensor
) -> torch.Tensor:
    """Return A x on a flat padded box, A x = extra x + sum over faces of w (x_i - x_j), for axes that do not repeat."""
    result: torch.Tensor = _FaceImage.apply(s, w0, w1, w2, extra, x)
    return result
