"""`deepcd.optim`: Gauss-Newton and self-scaled Broyden for any module of torch, and what they refuse."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deepcd import optim
from deepcd.solvers.optimizers.torch_modules.vectors import transposed_jacobian

DTYPES = (torch.float32, torch.float64)
METHODS = (optim.GaussNewton, optim.SSBroyden)
Method = type[optim.GaussNewton] | type[optim.SSBroyden]
Optimizer = optim.GaussNewton | optim.SSBroyden


def network(dtype: torch.dtype = torch.float64) -> torch.nn.Sequential:
    """Return a network 1-16-1 with the same parameters each time."""
    net = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).to(dtype)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return net


def misfit(net: torch.nn.Module, n: int = 40) -> Tensor:
    x = torch.linspace(-3, 3, n, dtype=next(net.parameters()).dtype)[:, None]
    return (net(x) - torch.sin(x)).squeeze(1)


def closure_of(optimizer: Optimizer, residuals: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Return what the optimiser takes to minimise the sum of the squares of residuals."""
    if isinstance(optimizer, optim.GaussNewton):
        return residuals

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = residuals().square().sum()
        loss.backward()
        return loss

    return closure


def rosenbrock(x: Tensor) -> Callable[[], Tensor]:
    return lambda: torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])


def start(dtype: torch.dtype = torch.float64) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=dtype))


def values(optimizer: Optimizer, residuals: Callable[[], Tensor], steps: int) -> list[float]:
    return [float(optimizer.step(closure_of(optimizer, residuals))) for _ in range(steps)]


def numbers(net: torch.nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in net.parameters()]


def same(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
class TestEach:
    def test_finds_the_minimum_of_rosenbrock(self, method: Method, dtype: torch.dtype) -> None:
        x = start(dtype)
        values(method([x]), rosenbrock(x), 20)
        assert x.dtype == dtype
        torch.testing.assert_close(x.detach(), torch.ones(2, dtype=dtype), rtol=0, atol=1e-4)

    def test_fits_a_network_to_a_sine(self, method: Method, dtype: torch.dtype) -> None:
        net = network(dtype)
        before = float(misfit(net).square().sum().detach())
        optimizer = method(net)
        *_, last = values(optimizer, lambda: misfit(net), 20)
        assert last < 1e-4 * before
        # What a step returns belongs to the parameters that it leaves.
        assert last == pytest.approx(float(misfit(net).square().sum().detach()), rel=1e-6)
        assert {p.dtype for p in net.parameters()} == {dtype}

    def test_goes_on_bit_for_bit_from_a_file(self, method: Method, dtype: torch.dtype) -> None:
        one, other, file = network(dtype), network(dtype), io.BytesIO()
        optimizer = method(one)
        values(optimizer, lambda: misfit(one), 3)
        torch.save({"net": one.state_dict(), "optimizer": optimizer.state_dict()}, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        resumed = method(other)
        values(resumed, lambda: misfit(other), 1)  # which leaves something to replace
        resumed.load_state_dict(saved["optimizer"])
        other.load_state_dict(saved["net"])
        assert values(optimizer, lambda: misfit(one), 3) == values(resumed, lambda: misfit(other), 3)
        assert same(numbers(one), numbers(other))

    def test_copies_and_pickles_go_on_as_the_original(self, method: Method, dtype: torch.dtype) -> None:
        net = network(dtype)
        optimizer = method(net)
        values(optimizer, lambda: misfit(net), 2)
        copies = [copy.deepcopy((net, optimizer)), pickle.loads(pickle.dumps((net, optimizer)))]
        expected = values(optimizer, lambda: misfit(net), 2)
        for twin, its in copies:
            assert values(its, lambda twin=twin: misfit(twin), 2) == expected  # type: ignore[misc]
            assert same(numbers(twin), numbers(net))


@pytest.mark.parametrize("method", METHODS)
class TestParameters:
    def test_frozen_ones_stay(self, method: Method) -> None:
        net = network()
        first, *_ = net.children()
        first.requires_grad_(False)
        before = numbers(net)
        optimizer = method(net)
        first_value, *_, last = values(optimizer, lambda: misfit(net), 4)
        assert last < first_value
        after = numbers(net)
        assert same(after[:2], before[:2])
        assert not torch.equal(after[2], before[2])

    def test_those_frozen_later_stay_from_then_on(self, method: Method) -> None:
        net = network()
        optimizer = method(net)
        values(optimizer, lambda: misfit(net), 2)
        next(net.parameters()).requires_grad_(False)
        before = numbers(net)
        values(optimizer, lambda: misfit(net), 2)
        after = numbers(net)
        assert torch.equal(after[0], before[0])
        assert not torch.equal(after[1], before[1])

    def test_shared_ones_are_one(self, method: Method) -> None:
        results = []
        for times in (1, 2):
            x = start()
            optimizer = method([x] * times)
            assert len(optimizer.param_groups[0]["params"]) == 1
            results.append(values(optimizer, rosenbrock(x), 5))
        assert results[0] == results[1]

    def test_those_without_gradient_stay(self, method: Method) -> None:
        x, idle = start(), torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        values(method([x, idle]), rosenbrock(x), 20)
        torch.testing.assert_close(x.detach(), torch.ones(2, dtype=torch.float64))
        assert idle.tolist() == [3.0, 4.0]

    def test_those_set_from_outside_are_where_the_next_step_starts(self, method: Method) -> None:
        x = start()
        optimizer = method([x])
        values(optimizer, rosenbrock(x), 20)
        with torch.no_grad():
            x.copy_(torch.tensor([0.5, -0.5]))
        values(optimizer, lambda: x - torch.tensor([3.0, 4.0]), 20)  # and another function
        torch.testing.assert_close(x.detach(), torch.tensor([3.0, 4.0], dtype=torch.float64))

    def test_of_float32_are_rounded_from_numbers_with_more_digits(self, method: Method) -> None:
        x = start(torch.float32)
        optimizer = method([x])
        values(optimizer, rosenbrock(x), 2)
        theta = optimizer.state_dict()["state"][0]["theta"]
        assert torch.equal(theta.float(), x.detach())
        assert not torch.equal(theta, x.detach().double())

    def test_of_several_precisions_move_together(self, method: Method) -> None:
        x, y = torch.nn.Parameter(torch.tensor(-1.2)), torch.nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
        values(method([x, y]), lambda: torch.stack([10 * (y - x**2), 1 - x]), 20)
        assert (x.dtype, y.dtype) == DTYPES
        assert abs(x.item() - 1) + abs(y.item() - 1) < 1e-4


@pytest.mark.parametrize("method", METHODS)
class TestRefusals:
    def test_of_parameters(self, method: Method) -> None:
        x = start()
        with pytest.raises(TypeError, match=f"complex128: {method.__name__} takes parameters of float32 and float64"):
            method([torch.nn.Parameter(torch.zeros(2, dtype=torch.complex128))])
        with pytest.raises(TypeError, match=r"torch.bfloat16"):
            method(torch.nn.Linear(2, 2, dtype=torch.bfloat16))
        with pytest.raises(ValueError, match="so it has one group of parameters: pass them as one list"):
            method([{"params": [x]}, {"params": [start()]}])
        optimizer = method([{"params": [x]}])
        with pytest.raises(ValueError, match="one group"):
            optimizer.add_param_group({"params": [start()]})
        assert len(optimizer.param_groups) == 1
        with pytest.raises(ValueError, match="no parameter requires a gradient"):
            method(network().requires_grad_(False))
        with pytest.raises(ValueError, match=r"there are 20,001 parameters, .* 3\.2 GB: pass at most 20,000"):
            method([torch.nn.Parameter(torch.zeros(optim.LARGEST + 1))])

    def test_of_learning_rates(self, method: Method) -> None:
        with pytest.raises(KeyError, match="lr"):
            torch.optim.lr_scheduler.StepLR(method([start()]), 10)

    @pytest.mark.parametrize(
        ("wrong", "error", "message"),
        [
            (lambda r: float(r.detach().sum()), TypeError, "closure returned float: return the "),
            (lambda r: r.bfloat16(), TypeError, "closure returned a tensor of torch.bfloat16: return the "),
            (lambda r: (r + 0j).sum(), TypeError, "closure returned a tensor of torch.complex128: return the "),
            (lambda r: r[None], ValueError, r"closure returned a tensor of shape \(1, 2\): return the "),
            (lambda r: r * torch.tensor([1.0, torch.nan]), ValueError, "entry 1 of the residuals .* is nan: start"),
        ],
    )
    def test_of_closures(
        self, method: Method, wrong: Callable[[Tensor], Any], error: type[Exception], message: str
    ) -> None:
        x, y = start(), start()
        optimizer, undisturbed = method([x]), method([y])
        residuals = rosenbrock(x)
        values(optimizer, residuals, 2)
        values(undisturbed, rosenbrock(y), 2)
        if isinstance(optimizer, optim.SSBroyden):
            message = message.replace("1 of the residuals", "0 of the loss")

        def closure() -> Any:
            r = residuals()
            if isinstance(optimizer, optim.SSBroyden):
                r.square().sum().backward()
                return wrong(r).sum() if "nan" in message else wrong(r)
            return wrong(r)

        with pytest.raises(error, match=message):
            optimizer.step(closure)
        assert values(optimizer, residuals, 2) == values(undisturbed, rosenbrock(y), 2)
        assert torch.equal(x, y)

    def test_of_closures_that_raise_midway(self, method: Method) -> None:
        x, calls = start(), 0
        optimizer = method([x])
        residuals = rosenbrock(x)

        def failing() -> Tensor:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise RuntimeError("out of luck")
            return residuals()

        with pytest.raises(RuntimeError, match="out of luck"):
            optimizer.step(closure_of(optimizer, failing))
        assert x.tolist() == [-1.2, 1.0]

    def test_of_states_of_something_else(self, method: Method) -> None:
        x, y = start(), start()
        optimizer, undisturbed = method([x]), method([y])
        values(optimizer, rosenbrock(x), 2)
        values(undisturbed, rosenbrock(y), 2)
        adam = torch.optim.Adam([start()])
        for foreign in (adam.state_dict(), method(network()).state_dict()):
            with pytest.raises(ValueError, match="load "):
                optimizer.load_state_dict(foreign)
        assert values(optimizer, rosenbrock(x), 2) == values(undisturbed, rosenbrock(y), 2)


class Doubled(torch.autograd.Function):
    """Twice the input, by NumPy, which vmap does not know."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.from_numpy(2 * x.detach().numpy())

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return torch.from_numpy(2 * g.numpy())


class TestGaussNewton:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_jacobians_are_those_by_hand(self, dtype: torch.dtype) -> None:
        """Of w2 tanh(w1 x + b1) + b2, at more points than one chunk takes."""
        net = network(dtype)
        x = torch.linspace(-3, 3, 300, dtype=dtype)
        w1, b1, w2, _ = (p.detach().reshape(-1).double() for p in net.parameters())
        t = torch.tanh(torch.outer(w1, x.double()) + b1[:, None])
        inner = w2[:, None] * (1 - t**2)
        expected = torch.cat([inner * x, inner, t, torch.ones(1, 300)])
        found = transposed_jacobian(net(x[:, None]).squeeze(1), list(net.parameters()))
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, atol=1e-5 if dtype == torch.float32 else 1e-13)

    def test_operations_that_vmap_does_not_know_are_taken_one_by_one(self) -> None:
        net, x = network(), torch.linspace(-3, 3, 9, dtype=torch.float64)[:, None]
        parameters = list(net.parameters())
        expected = transposed_jacobian(2 * net(x).squeeze(1), parameters)
        found = transposed_jacobian(Doubled.apply(net(x)).squeeze(1), parameters)
        np.testing.assert_allclose(found, expected, rtol=1e-14)

    def test_parameters_that_residuals_leave_out_have_zero_rows(self) -> None:
        x, idle = start(), torch.nn.Parameter(torch.zeros(3))
        found = transposed_jacobian(rosenbrock(x)(), [idle, x])
        np.testing.assert_allclose(found, [[0, 0]] * 3 + [[24, -1], [10, 0]], rtol=1e-14)

    def test_gradients_are_left_alone(self) -> None:
        x = start()
        x.grad = torch.tensor([5.0, 6.0], dtype=torch.float64)
        with torch.no_grad():
            values(optim.GaussNewton([x]), rosenbrock(x), 1)
        assert x.grad.tolist() == [5.0, 6.0]

    def test_closures_that_are_no_function_of_the_parameters_are_refused(self) -> None:
        x, other = start(), start()
        optimizer = optim.GaussNewton([x])
        with pytest.raises(ValueError, match="without a graph: compute them without detach or"):
            optimizer.step(rosenbrock(x.detach()))
        with pytest.raises(ValueError, match="depend on none of the parameters"):
            optimizer.step(rosenbrock(other))
        with pytest.raises(ValueError, match="the gradient of residual 0 is not finite at the current parameters"):
            optimizer.step(lambda: torch.sqrt(x - x.detach()))
        lengths = iter(range(2, 100))
        with pytest.raises(ValueError, match="returned 2 residuals and then 3: keep their number"):
            optimizer.step(lambda: x[0] * torch.ones(next(lengths)))
        assert x.tolist() == [-1.2, 1.0]

    @pytest.mark.parametrize("damping", [0.0, -1.0, np.nan, np.inf])
    def test_damping_is_positive(self, damping: float) -> None:
        with pytest.raises(ValueError, match=f"damping={damping}: pass a positive number"):
            optim.GaussNewton([start()], damping)


class TestSSBroyden:
    @pytest.mark.parametrize("variant", ["broyden", "bfgs"])
    def test_variants_are_those_of_the_core(self, variant: str) -> None:
        from deepcd.solvers.optimizers.self_scaled_broyden import SelfScaledBroyden

        def fun(theta: np.ndarray) -> tuple[float, np.ndarray]:
            x = torch.tensor(theta, requires_grad=True)
            loss = rosenbrock(x)().square().sum()
            loss.backward()
            assert x.grad is not None
            return loss.item(), x.grad.numpy()

        x, core = start(), SelfScaledBroyden([-1.2, 1.0], variant=variant)
        optimizer = optim.SSBroyden([x], variant, max_iter=7)
        (value,) = values(optimizer, rosenbrock(x), 1)
        for _ in range(7):
            core.step(fun)
        assert value == core.value
        assert x.tolist() == core.theta.tolist()

    def test_a_state_brings_its_variant(self) -> None:
        x, y = start(), start()
        one, other = optim.SSBroyden([x], "bfgs", max_iter=2), optim.SSBroyden([y])
        values(one, rosenbrock(x), 3)
        other.load_state_dict(one.state_dict())
        y.data.copy_(x)
        assert values(one, rosenbrock(x), 3) == values(other, rosenbrock(y), 3)

    def test_steps_on_the_same_function_go_on_as_one(self) -> None:
        results = []
        for max_iter, steps in ((6, 1), (2, 3)):
            x = start()
            values(optim.SSBroyden([x], max_iter=max_iter), rosenbrock(x), steps)
            results.append(x.tolist())
        assert results[0] == results[1]

    def test_gradients_do_not_add_up_where_a_closure_forgets_to_clear_them(self) -> None:
        x, y = start(), start()
        one, other = optim.SSBroyden([x]), optim.SSBroyden([y])

        def forgetful() -> Tensor:
            loss = rosenbrock(x)().square().sum()
            loss.backward()
            return loss

        assert [float(one.step(forgetful)) for _ in range(3)] == values(other, rosenbrock(y), 3)

    def test_parameters_are_those_of_the_last_iteration_where_a_later_one_fails(self) -> None:
        x, seen = start(), []
        optimizer = optim.SSBroyden([x])

        def closure() -> Tensor:
            loss = closure_of(optimizer, rosenbrock(x))()
            seen.append(float(loss.detach()))
            if len(seen) == 15:
                raise KeyboardInterrupt
            return loss

        with pytest.raises(KeyboardInterrupt):
            optimizer.step(closure)
        value = float(rosenbrock(x)().square().sum().detach())
        assert value < seen[0]
        assert value in seen
        (after,) = values(optimizer, rosenbrock(x), 1)
        assert after < value

    def test_closures_without_backward_are_refused(self) -> None:
        x = start()
        with pytest.raises(ValueError, match=r"no parameter has a gradient after closure\(\): call loss.backward"):
            optim.SSBroyden([x]).step(lambda: rosenbrock(x)().square().sum())
        assert x.tolist() == [-1.2, 1.0]

    def test_options_are_checked(self) -> None:
        with pytest.raises(ValueError, match="variant='dfp': choose 'broyden' or 'bfgs'"):
            optim.SSBroyden([start()], "dfp")
        with pytest.raises(ValueError, match="max_iter=0: pass 1 or more"):
            optim.SSBroyden([start()], max_iter=0)
