"""Visual concrete encoder: a thin CNN from images to continuous latents C."""

from __future__ import annotations

from torch import Tensor, nn

from ashneuro.config import ConcreteConfig


class ConcreteEncoder(nn.Module):
    """Continuous latents C (B, D, H, W) of images (B, 3, S, S): ``C = LayerNorm_D(Conv1×1(f(image)))``.

    f: per entry of ``channels`` a 3×3 convolution of stride 2, batch norm, ReLU; so H = W = S halved (rounded up) once per entry.
    """

    def __init__(self, config: ConcreteConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for channels in config.channels:
            layers += [nn.Conv2d(before, channels, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
            before = channels
        self.trunk = nn.Sequential(*layers)
        self.project = nn.Conv2d(before, config.width, 1)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, images: Tensor) -> Tensor:
        """Return C (B, D, H, W) of images (B, 3, S, S)."""
        latents = self.project(self.trunk(images))
        return self.norm(latents.movedim(1, -1)).movedim(-1, 1)  # type: ignore[no-any-return]


def halved(size: int, times: int) -> int:
    """Return what ``times`` convolutions of stride 2, kernel 3 and padding 1 leave of ``size``."""
    for _ in range(times):
        size = (size + 1) // 2
    return size
