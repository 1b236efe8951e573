"""Visual concrete encoder: small CNN or pretrained backbone, images to continuous latents C."""

from __future__ import annotations

from torch import Tensor, nn

from ashneuro.config import ConcreteConfig
from ashneuro.model.pretrained import Backbone
from ashneuro.spiking.kernels.batch_norm import BatchNorm2d


class ConcreteEncoder(nn.Module):
    """Continuous latents C (B, D, H, W) of images (B, 3, S, S).

    ::

        C = LayerNorm_D(Conv1×1(f(image)))

    f is a stack of 3×3 convolutions of stride 2 with batch norm and ReLU, one per entry of
    ``channels``, each of which halves H = W (rounded up); or a feature map of a timm model.

    Args:
        load: load the pretrained weights that the config names.

    Attributes:
        grid: H = W.
        features: channels of f's output. The output of a frozen f may be given instead of images,
            because it is the same in every epoch.
    """

    def __init__(self, config: ConcreteConfig, image_size: int, load: bool = True) -> None:
        super().__init__()
        self.trunk: nn.Module
        if config.backbone:
            backbone = Backbone(config, image_size, load)
            self.trunk, self.features, self.grid = backbone, backbone.channels, backbone.side
        else:
            layers: list[nn.Module] = []
            in_channels = 3
            for channels in config.channels:
                layers += [
                    nn.Conv2d(in_channels, channels, 3, stride=2, padding=1, bias=False),
                    BatchNorm2d(channels),
                    nn.ReLU(),
                ]
                in_channels = channels
            self.trunk, self.features, self.grid = (
                nn.Sequential(*layers),
                in_channels,
                downsampled(image_size, len(config.channels)),
            )
        self.project = nn.Conv2d(self.features, config.width, 1)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, images: Tensor) -> Tensor:
        """Return C (B, D, H, W) of images (B, 3, S, S), or of features f(images) (B, F, H, W)."""
        features = self.trunk(images) if images.shape[1] == 3 else images
        return self.norm(self.project(features).movedim(1, -1)).movedim(-1, 1)  # type: ignore[no-any-return]


def downsampled(size: int, times: int) -> int:
    """Return the size after ``times`` convolutions of stride 2, kernel 3 and padding 1."""
    for _ in range(times):
        size = (size + 1) // 2
    return size
