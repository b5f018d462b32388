"""The network of Kaneda et al. against its definition, and the iteration around it against what is known of it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.ndimage import correlate

from deepcd import DeepCD, Status, cg
from deepcd.data import right_hand_side, weight_files
from deepcd.pde import Grid, ball, box, domain, poisson
from deepcd.solvers.conjugate_directions import conjugate_directions
from deepcd.solvers.grids.discovery import embed
from deepcd.solvers.learned.dcdm_network import VARIANTS, DCDMNetwork, variant_of
from deepcd.solvers.operators.csr import CSROperator
from deepcd.solvers.operators.unit_stencil import UnitStencilOperator
from deepcd.solvers.preconditioners.dcdm import DCDM
from deepcd.solvers.preconditioners.identity import Identity

from .systems import square

CLOSED = {"2d": domain((6, 5)), "64": domain((4, 3, 5))}
CUT = {
    "2d": domain((9, 8), solid=ball((4, 5), 2), walls=["solid", ("solid", "air")]),
    "64": domain((5, 6, 4), solid=box((1, 2, 0), (3, 4, 3)), walls="air"),
}


def network(variant: str = "2d", seed: int = 0) -> DCDMNetwork:
    torch.manual_seed(seed)
    return DCDMNetwork(variant)


def untrained(variant: str = "2d", seed: int = 0) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in network(variant, seed).state_dict().items()}


def preconditioner(grid: Grid, variant: str, **options: Any) -> DCDM:
    embedding, stencil = embed(grid)
    return DCDM(embedding.shape, stencil.diagonal, untrained(variant), variant, **options)


@pytest.fixture
def weights(tmp_path: Path) -> Callable[[str], Path]:
    """Write a weight file of an untrained network and return its path."""

    def write(variant: str) -> Path:
        path = tmp_path / f"dcdm-{variant}.safetensors"
        weight_files.save(path, untrained(variant), {"architecture": f"dcdm-{variant}/1"})
        return path

    return write


def stencil_system(grid: Grid, seed: int = 0) -> tuple[UnitStencilOperator, np.ndarray, np.ndarray]:
    """Return A / scale on the box of a grid and as a matrix, and a right-hand side in its range, on the unknowns."""
    (embedding, stencil), system = embed(grid), poisson(grid)
    b = right_hand_side(system, "random", np.random.default_rng(seed))
    return UnitStencilOperator(embedding, stencil), system.A.toarray() / stencil.scale, b


class Direction:
    """A preconditioner that is |r| f(r / |r|), as that of a network is."""

    name, work = "test", 2.0
    symmetric = linear = False

    def __init__(self, function: Callable[[np.ndarray], np.ndarray], n: int) -> None:
        self.function, self.n = function, n

    def zeros(self) -> np.ndarray:
        return np.zeros(self.n)

    def apply(self, r: np.ndarray, z: np.ndarray) -> float:
        size = np.linalg.norm(r)
        z[...] = size * self.function(r / size)
        return float(r @ z)


def skewed(r: np.ndarray) -> np.ndarray:
    """A map that is neither linear nor symmetric, and a descent direction: r.z is at least 0.4 r.r."""
    return r + 0.3 * np.tanh(np.roll(r, 1)) + 0.3 * np.abs(r)


class TestIteration:
    @pytest.mark.parametrize("variant", CLOSED)
    def test_the_exact_inverse_as_network_needs_one_iteration(
        self, variant: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        grid = CLOSED[variant]
        operator, A, b = stencil_system(grid)
        M, inverse = preconditioner(grid, variant), np.linalg.pinv(A)

        def exact(r: torch.Tensor) -> torch.Tensor:
            assert np.linalg.norm(r) == pytest.approx(1, abs=1e-5)
            return torch.from_numpy((inverse @ r.numpy().ravel()).astype(np.float32)).reshape(r.shape)

        monkeypatch.setattr(M, "network", exact)
        size = float(np.linalg.norm(b))
        record = conjugate_directions(operator, operator.embed(b), M, 1e-5 * size, maxiter=10, keep=2)
        assert (record.status, len(record.residuals)) == (Status.CONVERGED, 2)
        x = operator.extract(record.x)
        np.testing.assert_allclose(x - x.mean(), inverse @ b, atol=1e-5 * np.abs(inverse @ b).max())

    @pytest.mark.parametrize("keep", [1, 2])
    def test_the_identity_as_network_gives_the_iterates_of_cg(self, keep: int) -> None:
        A, b = square(12), np.random.default_rng(3).standard_normal(144)
        ours: list[np.ndarray] = []
        theirs: list[np.ndarray] = []
        M = Direction(lambda r: r, 144)
        conjugate_directions(CSROperator(A), b, M, 0.0, maxiter=25, keep=keep, callback=lambda x: ours.append(x.copy()))
        cg(A, b, rtol=1e-14, maxiter=25, callback=lambda x: theirs.append(x.copy()))
        assert len(ours) == len(theirs) == 25
        for mine, other in zip(ours, theirs, strict=True):
            assert np.abs(mine - other).max() <= 1e-12 * np.abs(other).max()

    def test_so_does_it_on_boxes_in_single_precision(self, monkeypatch: pytest.MonkeyPatch) -> None:
        operator, A, b = stencil_system(CUT["64"])
        M = preconditioner(CUT["64"], "64")
        monkeypatch.setattr(M, "network", lambda r: r)
        ours: list[np.ndarray] = []
        conjugate_directions(
            operator,
            operator.embed(b),
            M,
            0.0,
            maxiter=8,
            keep=2,
            callback=lambda x: ours.append(operator.extract(x)),
        )
        x, r, p, expected = np.zeros(len(b)), b, b, []
        for _ in range(8):
            alpha = (r @ r) / (p @ A @ p)
            x, before, r = x + alpha * p, r, r - alpha * A @ p
            p = r + (r @ r) / (before @ before) * p
            expected.append(x)
        np.testing.assert_allclose(ours, expected, atol=2e-5 * np.abs(x).max())

    @pytest.mark.parametrize("diagonal", [False, True])
    def test_with_no_kept_direction_it_is_steepest_descent(self, diagonal: bool) -> None:
        A, b = square(10), np.random.default_rng(1).standard_normal(100)
        weights = np.random.default_rng(2).uniform(0.5, 2, 100) if diagonal else np.ones(100)
        ours: list[np.ndarray] = []
        M = Direction(lambda r: weights * r, 100) if diagonal else Identity(100)
        conjugate_directions(CSROperator(A), b, M, 0.0, maxiter=30, keep=0, callback=lambda x: ours.append(x.copy()))
        x, r = np.zeros(100), b
        for mine in ours:
            z = weights * r
            x = x + (r @ z) / (z @ (A @ z)) * z
            r = b - A @ x
            assert np.abs(mine - x).max() <= 1e-12 * np.abs(x).max()
        assert len(ours) == 30

    def test_with_no_kept_direction_it_goes_down_to_rounding(self) -> None:
        A, b = square(6), np.random.default_rng(1).standard_normal(36)
        record = conjugate_directions(CSROperator(A), b, Identity(36), 1e-10, maxiter=2000, keep=0)
        assert record.status is Status.CONVERGED
        assert np.linalg.norm(b - A @ record.x) <= 1e-10
        assert len(record.residuals) > 3 * len(
            conjugate_directions(CSROperator(A), b, Identity(36), 1e-10, maxiter=99).residuals
        )

    @pytest.mark.parametrize("keep", [0, 2])
    def test_the_error_falls_in_every_iteration_whatever_the_network(self, keep: int) -> None:
        A, b = square(9), np.random.default_rng(5).standard_normal(81)
        exact, errors = np.linalg.solve(A.toarray(), b), []

        def note(x: np.ndarray) -> None:
            errors.append(float((x - exact) @ (A @ (x - exact))))

        M = Direction(skewed, 81)
        conjugate_directions(CSROperator(A), b, M, 0.0, maxiter=25, keep=keep, callback=note)
        assert len(errors) == 25
        assert (np.diff([exact @ b, *errors]) < 0).all()

    @pytest.mark.parametrize("variant", CUT)
    def test_the_error_falls_on_boxes_in_single_precision_as_well(
        self, variant: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        operator, A, b = stencil_system(CUT[variant])
        exact, errors = np.linalg.solve(A, b), []
        M = preconditioner(CUT[variant], variant)
        raw = M.network

        def note(x: np.ndarray) -> None:
            error = operator.extract(x) - exact
            errors.append(float(error @ A @ error))

        def half_meant(r: torch.Tensor) -> torch.Tensor:
            """Untrained, it may be orthogonal to the residual."""
            q = raw(r)
            return r + 0.5 * q / q.norm()

        monkeypatch.setattr(M, "network", half_meant)
        conjugate_directions(operator, operator.embed(b), M, 0.0, maxiter=12, keep=2, callback=note)
        falls = -np.diff([exact @ b, *errors]) / [exact @ b, *errors[:-1]]
        assert len(falls) == 12
        assert falls.min() > 1e-3


def convolved(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Return a convolution with zeros beyond the image, channels first."""
    kernel = weights[f"{name}.weight"].astype(float)
    sums = [sum(correlate(c, k, mode="constant") for c, k in zip(x, row, strict=True)) for row in kernel]
    return np.array([s + bias for s, bias in zip(sums, weights[f"{name}.bias"], strict=True)])


def residual_blocks(x: np.ndarray, weights: dict[str, np.ndarray], name: str, number: int) -> np.ndarray:
    for k in range(number):
        inner = np.maximum(convolved(x, weights, f"{name}.{k}.first"), 0)
        x = x + np.maximum(convolved(inner, weights, f"{name}.{k}.second"), 0)
    return x


class TestNetwork:
    @pytest.mark.parametrize(("variant", "count"), [("64", 97_457), ("128", 152_881), ("2d", 32_657)])
    def test_has_as_many_parameters_as_published(self, variant: str, count: int) -> None:
        assert sum(p.numel() for p in DCDMNetwork(variant).parameters()) == count

    @pytest.mark.parametrize("shape", [(6, 8), (7, 4), (5, 9)])
    def test_is_the_one_defined(self, shape: tuple[int, int]) -> None:
        net, weights = network(), untrained()
        r = np.random.default_rng(0).standard_normal(shape)
        image = np.pad(r, [(0, n % 2) for n in shape])[None]
        image = np.maximum(convolved(convolved(image, weights, "lift"), weights, "enter"), 0)
        image = residual_blocks(image, weights, "before", 1)
        image = np.maximum(convolved(image, weights, "leave"), 0)
        coarse = image.reshape(16, image.shape[1] // 2, 2, image.shape[2] // 2, 2).mean(axis=(2, 4))
        coarse = residual_blocks(coarse, weights, "under", 3)
        fine = residual_blocks(image + coarse.repeat(2, axis=1).repeat(2, axis=2), weights, "after", 2)
        expected = convolved(fine, weights, "sum")[0][: shape[0], : shape[1]]
        with torch.no_grad():
            computed = net(torch.from_numpy(r[None].astype(np.float32)))[0].numpy()
        np.testing.assert_allclose(computed, expected, atol=1e-5 * np.abs(expected).max())

    @pytest.mark.parametrize(
        ("variant", "shape"), [("2d", (7, 6)), ("64", (5, 4, 3)), ("128", (4, 6, 7)), ("2d", (1, 9))]
    )
    def test_an_image_alone_is_the_same_in_a_batch(self, variant: str, shape: tuple[int, ...]) -> None:
        net, r = network(variant), torch.randn((3, *shape), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            together, alone = net(r), torch.cat([net(one[None]) for one in r])
        assert together.shape == r.shape
        torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-4)
        assert (together[0] - together[1]).abs().max() > 1e-3

    def test_is_differentiated_alone_as_in_a_batch(self) -> None:
        net, r = network(), torch.randn((1, 7, 6), generator=torch.Generator().manual_seed(0))
        gradients = []
        for batch in (r, r.expand(2, 7, 6)):
            net.zero_grad()
            net(batch)[0].square().sum().backward()
            gradients.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
        assert len(gradients[0]) == len(list(net.parameters()))
        for one, two in zip(*gradients, strict=True):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize("variant", [64, "64"])
    def test_variants_may_be_numbers(self, variant: str | int) -> None:
        assert DCDMNetwork(variant).variant == "64"

    def test_other_variants_are_refused(self) -> None:
        with pytest.raises(ValueError, match="variant must be one of '64', '128', '2d', got '32'"):
            DCDMNetwork("32")

    def test_images_of_another_number_of_axes_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"3 axes, got shape \(1, 8, 8\)"):
            network("64")(torch.zeros(1, 8, 8))


class TestPreconditioner:
    @pytest.mark.parametrize("variant", CUT)
    def test_is_the_network_on_the_residual_of_length_one(self, variant: str) -> None:
        grid = CUT[variant]
        M, (embedding, stencil) = preconditioner(grid, variant), embed(grid)
        r = UnitStencilOperator(embedding, stencil).embed(
            np.random.default_rng(0).standard_normal(len(embedding.position))
        )
        r, z = r.astype(np.float32), M.zeros()
        z[...] = np.nan
        product = M.apply(r, z)
        size, inside = np.linalg.norm(r), tuple(slice(1, -1) for _ in grid.shape)
        image = torch.from_numpy(r.reshape(stencil.diagonal.shape)[inside] / size)
        with torch.no_grad():
            expected = size * network(variant)(image[None])[0].numpy()
        outside = stencil.diagonal == 0
        assert not z.reshape(outside.shape)[outside].any()
        assert np.abs(expected[outside[inside]]).max() > 0  # the network alone knows no walls
        unknown = ~outside[inside]
        np.testing.assert_allclose(z.reshape(outside.shape)[inside][unknown], expected[unknown], rtol=1e-4, atol=1e-6)
        assert product == pytest.approx(float(r.astype(float) @ z), rel=1e-6)

    @pytest.mark.parametrize("variant", CUT)
    def test_is_positively_homogeneous(self, variant: str) -> None:
        M, operator = preconditioner(CUT[variant], variant), UnitStencilOperator(*embed(CUT[variant]))
        r = operator.embed(np.random.default_rng(0).standard_normal(len(operator.embedding.position)))
        r, one, other = r.astype(np.float32), M.zeros(), M.zeros()
        product = M.apply(r, one)
        for factor in (2.0**-20, 0.7, 1e3):
            assert M.apply(np.float32(factor) * r, other) == pytest.approx(factor**2 * product, rel=1e-4)
            np.testing.assert_allclose(other, np.float32(factor) * one, rtol=1e-4, atol=factor * 1e-6)
        M.apply(-r, other)
        assert np.abs(one + other).max() > 0.1 * np.abs(one).max()  # but it is not odd

    def test_without_normalisation_it_is_not(self) -> None:
        M, operator = preconditioner(CUT["2d"], "2d", normalise=False), UnitStencilOperator(*embed(CUT["2d"]))
        r = operator.embed(np.random.default_rng(0).standard_normal(len(operator.embedding.position)))
        r, one, other = r.astype(np.float32), M.zeros(), M.zeros()
        M.apply(r, one)
        M.apply(100 * r, other)
        assert np.abs(other - 100 * one).max() > 0.1 * np.abs(other).max()

    def test_of_nothing_it_is_nothing(self) -> None:
        M = preconditioner(CUT["2d"], "2d")
        z = np.full_like(M.zeros(), np.nan)
        assert M.apply(M.zeros(), z) == 0
        assert not z.any()

    @pytest.mark.parametrize("grid", [CUT["2d"], domain((1, 9)), domain((9, 1), walls="air")])
    def test_the_residual_is_left_alone(self, grid: Grid) -> None:
        M, operator = preconditioner(grid, "2d"), UnitStencilOperator(*embed(grid))
        r = operator.embed(np.random.default_rng(0).standard_normal(len(operator.embedding.position)))
        r = r.astype(np.float32)
        before = r.copy()
        M.apply(r, M.zeros())
        np.testing.assert_array_equal(r, before)

    @pytest.mark.parametrize(("variant", "grid"), [("2d", CUT["64"]), ("64", CUT["2d"]), ("128", CUT["2d"])])
    def test_a_grid_of_another_number_of_axes_is_refused(self, variant: str, grid: Grid) -> None:
        axes, own = len(grid.shape), VARIANTS[variant][0]
        with pytest.raises(ValueError, match=f"network of {own} axes was given, but the grid has {axes}"):
            preconditioner(grid, variant)

    def test_threads_are_those_asked_for_while_it_is_applied(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before, seen = torch.get_num_threads(), []
        M = preconditioner(CUT["2d"], "2d", threads=before + 1)
        original = M.network

        def noting(r: torch.Tensor) -> torch.Tensor:
            seen.append(torch.get_num_threads())
            return original(r)

        monkeypatch.setattr(M, "network", noting)
        r = M.zeros()
        r[embed(CUT["2d"])[0].position] = 1
        M.apply(r, M.zeros())
        assert seen == [before + 1]
        assert torch.get_num_threads() == before

    def test_a_twin_has_threads_of_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        M, seen = preconditioner(CUT["2d"], "2d", threads=3), []

        def noting(r: torch.Tensor) -> torch.Tensor:
            seen.append(torch.get_num_threads())
            return r

        monkeypatch.setattr(M, "network", noting)
        for own in (M.twin(1), M):
            own.apply(own.zeros(), own.zeros())
        assert seen == [1, 3]

    def test_work_counts_the_channels_that_convolutions_read_and_write(self) -> None:
        large, small, planar = (preconditioner(CUT["2d" if v == "2d" else "64"], v).work for v in ("128", "64", "2d"))
        assert large > small == 4 + 32 * (9 + 6 / 8)
        assert planar == 4 + 32 * (9 + 6 / 4)

    def test_says_what_it_is(self) -> None:
        M = preconditioner(CUT["64"], "64")
        assert (M.name, M.symmetric, M.linear) == ("dcdm", False, False)
        assert "the network '64' of Kaneda et al." in str(M)


class TestVariantOf:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_reads_what_weight_files_say(self, variant: str) -> None:
        assert variant_of(f"dcdm-{variant}/1") == variant

    @pytest.mark.parametrize("name", ["dcdm-64/2", "dcdm-32/1", "64", "dcdm-64", "learned-multigrid-3d/2", ""])
    def test_refuses_everything_else(self, name: str) -> None:
        with pytest.raises(
            ValueError, match=f"those of '{name}'; DCDM networks are 'dcdm-64/1', 'dcdm-128/1', 'dcdm-2d/1'"
        ):
            variant_of(name)


class TestThroughTheFrontDoor:
    @pytest.mark.parametrize("variant", CUT)
    def test_success_is_never_claimed_without_it(self, variant: str, weights: Callable[[str], Path]) -> None:
        grid = CUT[variant]
        system = DeepCD(preconditioner="dcdm", weights=weights(variant)).setup(grid)
        assert system.preconditioner == "dcdm"
        assert "directions kept: 2" in str(system)
        A, b = poisson(grid).A, right_hand_side(poisson(grid), "random", np.random.default_rng(1))
        infos = []
        for maxiter in (1, 3, 10, 60):
            solution = system.solve(b, 1e-3, maxiter=maxiter)
            assert np.isfinite(solution.x).all()
            true = np.linalg.norm(b - A @ solution.x) / np.linalg.norm(b)
            assert (solution.info == 0) == (true <= 1e-3)
            assert true < 1
            infos.append(solution.info)
        assert infos[0] > 0
        assert infos[1] > 0

    def test_the_sealed_box_is_solved(self, weights: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
        grid = CLOSED["2d"]
        system, inverse = poisson(grid), np.linalg.pinv(stencil_system(grid)[1]).astype(np.float32)

        def exact(self: DCDMNetwork, r: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(inverse @ r.numpy().ravel()).reshape(r.shape) + 3.0  # a constant does no harm

        monkeypatch.setattr(DCDMNetwork, "forward", exact)
        b = right_hand_side(system, "smooth", np.random.default_rng(0))
        solution = DeepCD(preconditioner="dcdm", weights=weights("2d")).solve(system.A, b, 1e-5)
        assert (solution.status, solution.iterations) == (Status.CONVERGED, 1)
        assert abs(solution.x.mean()) < 1e-10 * np.abs(solution.x).max()

    @pytest.mark.parametrize("threads", [1, 2])
    def test_several_columns(self, threads: int, weights: Callable[[str], Path]) -> None:
        system = poisson(CUT["2d"])
        rng = np.random.default_rng(0)
        B = np.stack([right_hand_side(system, "random", rng) for _ in range(3)], axis=1)
        path, before = weights("2d"), torch.get_num_threads()
        alone, solver = (DeepCD("dcdm", weights=path, threads=t).setup(system.A) for t in (1, threads))
        block = solver.solve(B, 1e-6, maxiter=5)
        for j in range(3):
            np.testing.assert_allclose(block.x[:, j], alone.solve(B[:, j], 1e-6, maxiter=5).x, rtol=1e-3, atol=1e-5)
        assert torch.get_num_threads() == before
        assert block.info > 0

    def test_can_be_pickled_and_copied(self, weights: Callable[[str], Path]) -> None:
        system = DeepCD(preconditioner="dcdm", weights=weights("64")).setup(CUT["64"])
        b = right_hand_side(poisson(CUT["64"]), "random", np.random.default_rng(1))
        x = system.solve(b, 1e-6, maxiter=4).x
        for twin in (pickle.loads(pickle.dumps(system)), copy.deepcopy(system)):
            np.testing.assert_array_equal(twin.solve(b, 1e-6, maxiter=4).x, x)

    def test_weights_of_another_network_are_refused(self) -> None:
        other = weight_files.shipped_path("learned-multigrid-3d/2")
        with pytest.raises(ValueError, match="the weights are those of 'learned-multigrid-3d/2'; DCDM networks are"):
            DeepCD(preconditioner="dcdm", weights=other).setup(CUT["64"])

    def test_weights_for_another_number_of_axes_are_refused(self, weights: Callable[[str], Path]) -> None:
        with pytest.raises(ValueError, match="network of 2 axes was given, but the grid has 3"):
            DeepCD(preconditioner="dcdm", weights=weights("2d")).setup(CUT["64"])

    def test_what_is_no_grid_is_refused(self, weights: Callable[[str], Path]) -> None:
        A = square(8) + sp.diags_array(np.linspace(0, 1, 64))
        with pytest.raises(ValueError, match="there is no grid behind A"):
            DeepCD(preconditioner="dcdm", weights=weights("2d")).setup(A)

    def test_it_is_not_handed_to_methods_that_need_symmetry(self, weights: Callable[[str], Path]) -> None:
        with pytest.raises(ValueError, match="dcdm is not symmetric"):
            DeepCD(preconditioner="dcdm", weights=weights("2d")).setup(CUT["2d"]).aspreconditioner()

    def test_keep_may_be_zero_but_not_less(self) -> None:
        A, b = square(6), np.random.default_rng(0).standard_normal(36)
        slow, fast = (DeepCD("none", keep=keep).solve(A, b, 1e-8) for keep in (0, 1))
        assert slow.status is fast.status is Status.CONVERGED
        assert slow.iterations > 2 * fast.iterations
        with pytest.raises(ValueError, match="keep must be at least 0"):
            DeepCD(keep=-1)
