import torch

from ashneuro.model.places import mean_over_places


def test_the_mean_and_its_gradient_are_torchs_and_lie_as_the_input_does() -> None:
    dense = torch.randn(3, 5, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x, y = (dense.clone(memory_format=memory_format).requires_grad_() for _ in range(2))
        seen = []
        x.register_hook(seen.append)
        weights = torch.arange(15.0).reshape(3, 5)
        (mean_over_places(x) * weights).sum().backward()
        (y.mean((2, 3)) * weights).sum().backward()
        assert torch.equal(x.grad, y.grad)
        assert seen[0].is_contiguous(memory_format=memory_format)


def test_its_gradient_has_a_gradient() -> None:
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: mean_over_places(x).square(), x)
