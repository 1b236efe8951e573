"""Visual concrete encoder: a thin CNN, or a pretrained backbone, from images to continuous latents C."""

from __future__ import annotations

from torch import Tensor, nn

from ashneuro.config import ConcreteConfig
from ashneuro.model.pretrained import Backbone


class ConcreteEncoder(nn.Module):
    """Continuous latents C (B, D, H, W) of images (B, 3, S, S): ``C = LayerNorm_D(Conv1×1(f(image)))``.

    f: per entry of ``channels`` a 3×3 convolution of stride 2, batch norm, ReLU; so H = W = S halved (rounded up) once per entry. Or a
    feature map of a timm model.

    Args:
        load: read the pretrained weights that the settings name.

    Attributes:
        grid: H = W.
        features: channels of f's output, which may be given instead of images: what a frozen f makes of them is the same every time.
    """

    def __init__(self, config: ConcreteConfig, image_size: int, load: bool = True) -> None:
        super().__init__()
        self.trunk: nn.Module
        if config.backbone:
            backbone = Backbone(config, image_size, load)
            self.trunk, self.features, self.grid = backbone, backbone.channels, backbone.side
        else:
            layers: list[nn.Module] = []
            before = 3
            for channels in config.channels:
                layers += [
                    nn.Conv2d(before, channels, 3, stride=2, padding=1, bias=False),
                    nn.BatchNorm2d(channels),
                    nn.ReLU(),
                ]
                before = channels
            self.trunk, self.features, self.grid = (
                nn.Sequential(*layers),
                before,
                halved(image_size, len(config.channels)),
            )
        self.project = nn.Conv2d(self.features, config.width, 1)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, images: Tensor) -> Tensor:
        """Return C (B, D, H, W) of images (B, 3, S, S), or of what f made of them (B, F, H, W)."""
        features = self.trunk(images) if images.shape[1] == 3 else images
        return self.norm(self.project(features).movedim(1, -1)).movedim(-1, 1)  # type: ignore[no-any-return]


def halved(size: int, times: int) -> int:
    """Return what ``times`` convolutions of stride 2, kernel 3 and padding 1 leave of ``size``."""
    for _ in range(times):
        size = (size + 1) // 2
    return size
