"""Inception-v3's convolutional trunk (Szegedy et al., arXiv 1512.00567), with torchvision's
parameter names.

Written here because torchvision is not a dependency; every channel count can be divided and any
input from 75 px on is accepted, so that small recipes run the same code as the 299 px original.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MIN_SIZE = 75  # below this the last reduction has no pixel left


class BasicConv2d(nn.Module):
    """Convolution without bias, BatchNorm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class InceptionA(nn.Module):
    """Figure 5: 5x5 and stacked 3x3 beside 1x1 and pooling."""

    def __init__(self, in_channels: int, pool_channels: int, c):
        super().__init__()
        self.branch1x1 = BasicConv2d(in_channels, c(64), 1)
        self.branch5x5_1 = BasicConv2d(in_channels, c(48), 1)
        self.branch5x5_2 = BasicConv2d(c(48), c(64), 5, padding=2)
        self.branch3x3dbl_1 = BasicConv2d(in_channels, c(64), 1)
        self.branch3x3dbl_2 = BasicConv2d(c(64), c(96), 3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(c(96), c(96), 3, padding=1)
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)
        self.branch_pool = BasicConv2d(in_channels, pool_channels, 1)
        self.out_channels = c(64) + c(64) + c(96) + pool_channels

    def forward(self, x: Tensor) -> Tensor:
        branch5x5 = self.branch5x5_2(self.branch5x5_1(x))
        branch3x3 = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        pooled = self.branch_pool(self.pool(x))
        return torch.cat([self.branch1x1(x), branch5x5, branch3x3, pooled], dim=1)


class InceptionB(nn.Module):
    """Halves the map (figure 10)."""

    def __init__(self, in_channels: int, c):
        super().__init__()
        self.branch3x3 = BasicConv2d(in_channels, c(384), 3, stride=2)
        self.branch3x3dbl_1 = BasicConv2d(in_channels, c(64), 1)
        self.branch3x3dbl_2 = BasicConv2d(c(64), c(96), 3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(c(96), c(96), 3, stride=2)
        self.out_channels = c(384) + c(96) + in_channels

    def forward(self, x: Tensor) -> Tensor:
        branch3x3dbl = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), branch3x3dbl, F.max_pool2d(x, 3, stride=2)], dim=1)


class InceptionC(nn.Module):
    """Figure 6: 7x7 factorised into 1x7 and 7x1."""

    def __init__(self, in_channels: int, hidden: int, c):
        super().__init__()
        row, column = {"kernel_size": (1, 7), "padding": (0, 3)}, {"kernel_size": (7, 1), "padding": (3, 0)}
        self.branch1x1 = BasicConv2d(in_channels, c(192), 1)
        self.branch7x7_1 = BasicConv2d(in_channels, hidden, 1)
        self.branch7x7_2 = BasicConv2d(hidden, hidden, **row)
        self.branch7x7_3 = BasicConv2d(hidden, c(192), **column)
        self.branch7x7dbl_1 = BasicConv2d(in_channels, hidden, 1)
        self.branch7x7dbl_2 = BasicConv2d(hidden, hidden, **column)
        self.branch7x7dbl_3 = BasicConv2d(hidden, hidden, **row)
        self.branch7x7dbl_4 = BasicConv2d(hidden, hidden, **column)
        self.branch7x7dbl_5 = BasicConv2d(hidden, c(192), **row)
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)
        self.branch_pool = BasicConv2d(in_channels, c(192), 1)
        self.out_channels = 4 * c(192)

    def forward(self, x: Tensor) -> Tensor:
        branch7x7 = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        branch7x7dbl = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        branch7x7dbl = self.branch7x7dbl_5(self.branch7x7dbl_4(branch7x7dbl))
        pooled = self.branch_pool(self.pool(x))
        return torch.cat([self.branch1x1(x), branch7x7, branch7x7dbl, pooled], dim=1)


class InceptionD(nn.Module):
    """Halves the map after the 7x7 blocks."""

    def __init__(self, in_channels: int, c):
        super().__init__()
        self.branch3x3_1 = BasicConv2d(in_channels, c(192), 1)
        self.branch3x3_2 = BasicConv2d(c(192), c(320), 3, stride=2)
        self.branch7x7x3_1 = BasicConv2d(in_channels, c(192), 1)
        self.branch7x7x3_2 = BasicConv2d(c(192), c(192), (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = BasicConv2d(c(192), c(192), (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = BasicConv2d(c(192), c(192), 3, stride=2)
        self.out_channels = c(320) + c(192) + in_channels

    def forward(self, x: Tensor) -> Tensor:
        branch3x3 = self.branch3x3_2(self.branch3x3_1(x))
        branch7x7x3 = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([branch3x3, branch7x7x3, F.max_pool2d(x, 3, stride=2)], dim=1)


class InceptionE(nn.Module):
    """Figure 7: the widest block, 3x3 split side by side into 1x3 and 3x1."""

    def __init__(self, in_channels: int, c):
        super().__init__()
        row, column = {"kernel_size": (1, 3), "padding": (0, 1)}, {"kernel_size": (3, 1), "padding": (1, 0)}
        self.branch1x1 = BasicConv2d(in_channels, c(320), 1)
        self.branch3x3_1 = BasicConv2d(in_channels, c(384), 1)
        self.branch3x3_2a = BasicConv2d(c(384), c(384), **row)
        self.branch3x3_2b = BasicConv2d(c(384), c(384), **column)
        self.branch3x3dbl_1 = BasicConv2d(in_channels, c(448), 1)
        self.branch3x3dbl_2 = BasicConv2d(c(448), c(384), 3, padding=1)
        self.branch3x3dbl_3a = BasicConv2d(c(384), c(384), **row)
        self.branch3x3dbl_3b = BasicConv2d(c(384), c(384), **column)
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)
        self.branch_pool = BasicConv2d(in_channels, c(192), 1)
        self.out_channels = c(320) + 4 * c(384) + c(192)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = self.branch_pool(self.pool(x))
        wide = [
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
        ]
        return torch.cat([self.branch1x1(x), *wide, pooled], dim=1)


class InceptionTrunk(nn.Module):
    """Inception-v3 without classifier and auxiliary head.

    Args:
        channel_divisor: divides every published channel count (1, 2, 4, 8 or 16).

    Attributes:
        region_channels: channels of the region map, 768 / divisor.
        pooled_channels: width of the pooled vector, 2048 / divisor.
    """

    def __init__(self, channel_divisor: int = 1):
        super().__init__()

        def c(channels: int) -> int:
            return channels // channel_divisor

        self.Conv2d_1a_3x3 = BasicConv2d(3, c(32), 3, stride=2)
        self.Conv2d_2a_3x3 = BasicConv2d(c(32), c(32), 3)
        self.Conv2d_2b_3x3 = BasicConv2d(c(32), c(64), 3, padding=1)
        self.Conv2d_3b_1x1 = BasicConv2d(c(64), c(80), 1)
        self.Conv2d_4a_3x3 = BasicConv2d(c(80), c(192), 3)
        self.Mixed_5b = InceptionA(c(192), c(32), c)
        self.Mixed_5c = InceptionA(self.Mixed_5b.out_channels, c(64), c)
        self.Mixed_5d = InceptionA(self.Mixed_5c.out_channels, c(64), c)
        self.Mixed_6a = InceptionB(self.Mixed_5d.out_channels, c)
        self.region_channels = self.Mixed_6a.out_channels
        self.Mixed_6b = InceptionC(self.region_channels, c(128), c)
        self.Mixed_6c = InceptionC(self.region_channels, c(160), c)
        self.Mixed_6d = InceptionC(self.region_channels, c(160), c)
        self.Mixed_6e = InceptionC(self.region_channels, c(192), c)
        self.Mixed_7a = InceptionD(self.region_channels, c)
        self.Mixed_7b = InceptionE(self.Mixed_7a.out_channels, c)
        self.Mixed_7c = InceptionE(self.Mixed_7b.out_channels, c)
        self.pooled_channels = self.Mixed_7c.out_channels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, 3, s, s) to the region map (B, 768/d, h, w) and the pooled vector (B, 2048/d); h
        = w = 17 for s = 299."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        regions = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))  # (B, 768/d, h, w)
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(regions)))  # (B, 2048/d, h', w')
        return regions, x.mean(dim=(2, 3))
