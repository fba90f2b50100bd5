"""A small ResNet, a convolutional classifier and a small U-Net, and what goes wrong in them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import torch
import torch.nn.functional as F

import jaxprob.nn
from parity_tests.traps.pair import Pair

__all__ = ["CONVNET", "RESNET", "TRAINING", "UNET"]

PAD1 = ((1, 1), (1, 1))


def images(rng, size=8, channels=3):
    return {"x": rng.normal(size=(5, size, size, channels)).astype("float32")}


# ResNet, in the manner of torchvision; `setup` in Flax


def norm(mistake: str, train: bool) -> nn.Module:
    if mistake == "norm epsilon":
        return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-3)
    if mistake == "stock momentum":
        return nn.BatchNorm(use_running_average=not train)
    if mistake == "biased variance":
        return nn.BatchNorm(use_running_average=not train, momentum=0.9)
    if mistake == "running average in training":
        return nn.BatchNorm(use_running_average=True, momentum=0.9)
    return jaxprob.nn.BatchNorm(momentum=0.9 if mistake == "momentum of the other side" else 0.1)


def normed(layer, x, train):
    """The library's layer is told in the call whether it trains, Linen's when it is made."""
    return layer(x) if isinstance(layer, nn.BatchNorm) else layer(x, train)


class FlaxBlock(nn.Module):
    width: int
    mistake: str
    train: bool

    def setup(self):
        self.conv1 = nn.Conv(self.width, (3, 3), padding=PAD1, use_bias=False)
        self.bn1 = norm(self.mistake, self.train)
        self.conv2 = nn.Conv(self.width, (3, 3), padding=PAD1, use_bias=False)
        self.bn2 = norm(self.mistake, self.train)

    def __call__(self, x):
        if self.mistake == "relu before norm":
            y = normed(self.bn1, nn.relu(self.conv1(x)), self.train)
        else:
            y = nn.relu(normed(self.bn1, self.conv1(x), self.train))
        y = normed(self.bn2, self.conv2(y), self.train)
        return nn.relu(y if self.mistake == "no skip" else y + x)


class FlaxResNet(nn.Module):
    mistake: str = ""
    train: bool = False

    def setup(self):
        padding = "SAME" if self.mistake == "same padding" else PAD1
        self.conv1 = nn.Conv(4, (3, 3), strides=2, padding=padding, use_bias=False)
        self.bn1 = norm(self.mistake, self.train)
        self.layer1 = FlaxBlock(4, self.mistake, self.train)
        self.fc = nn.Dense(3)

    def __call__(self, x):
        x = nn.relu(normed(self.bn1, self.conv1(x), self.train))
        strides = None if self.mistake == "pool without strides" else (2, 2)
        x = nn.max_pool(x, (2, 2), strides=strides)
        x = self.layer1(x)
        return self.fc(x.mean(axis=(1, 2)))


class TorchBlock(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(width)
        self.conv2 = torch.nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(width)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + x)


class TorchResNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(4)
        self.layer1 = TorchBlock(4)
        self.fc = torch.nn.Linear(4, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = self.layer1(x)
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def RESNET(mistake, rng, train=False):
    module = TorchResNet().train(train)
    options = {"channels_first": ("x",)}
    return Pair(FlaxResNet(mistake, train), module, images(rng), "", "", options)


def TRAINING(mistake, rng):
    return RESNET(mistake, rng, train=True)


# Classifier; @nn.compact in Flax, names by rename


class FlaxConvNet(nn.Module):
    mistake: str = ""

    @nn.compact
    def __call__(self, x):
        slope = 0.01 if self.mistake == "leaky relu" else 0.2
        x = nn.leaky_relu(nn.Conv(8, (3, 3), padding=1)(x), slope)
        dilation = 1 if self.mistake == "dilation" else 2
        x = nn.Conv(8, (3, 3), padding="SAME", kernel_dilation=dilation)(x)
        grouping = (
            {"num_groups": None, "group_size": 4} if self.mistake == "groups" else {"num_groups": 4}
        )
        x = nn.leaky_relu(nn.GroupNorm(**grouping, epsilon=1e-5)(x), slope)
        x = nn.Conv(4, (3, 3), padding=1)(x)
        if self.mistake == "mean for max":
            x = nn.avg_pool(nn.elu(x), (2, 2), strides=(2, 2))
        else:
            x = nn.max_pool(nn.elu(x), (2, 2), strides=(2, 2))
        counted = self.mistake != "average pool"
        x = nn.avg_pool(x, (3, 3), strides=(1, 1), padding=PAD1, count_include_pad=counted)
        if self.mistake != "flatten":
            x = x.transpose(0, 3, 1, 2)
        x = x.reshape(x.shape[0], -1)
        x = nn.tanh(nn.Dense(6)(x))
        return nn.Dense(3)(x)


class TorchConvNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(8, 8, 3, padding=2, dilation=2)
        self.norm = torch.nn.GroupNorm(4, 8)
        self.conv3 = torch.nn.Conv2d(8, 4, 3, padding=1)
        self.fc1 = torch.nn.Linear(64, 6)
        self.fc2 = torch.nn.Linear(6, 3)

    def forward(self, x):
        x = F.leaky_relu(self.conv1(x), 0.2)
        x = F.leaky_relu(self.norm(self.conv2(x)), 0.2)
        x = F.max_pool2d(F.elu(self.conv3(x)), 2)
        x = F.avg_pool2d(x, 3, stride=1, padding=1)
        x = x.view(x.size(0), -1)
        return self.fc2(torch.tanh(self.fc1(x)))


def CONVNET(mistake, rng):
    rename = {
        "Conv_0": "conv1", "Conv_1": "conv2", "Conv_2": "conv3", "GroupNorm_0": "norm",
        "Dense_0": "fc1", "Dense_1": "fc2",
    }  # fmt: skip
    options = {"channels_first": ("x",), "rename": rename}
    return Pair(FlaxConvNet(mistake), TorchConvNet(), images(rng), "", "", options)


# U-Net


def bilinear(x, align):
    """Doubles height and width, as F.interpolate does with align_corners."""
    if not align:
        shape = (x.shape[0], 2 * x.shape[1], 2 * x.shape[2], x.shape[3])
        return jax.image.resize(x, shape, "bilinear")
    n = x.shape[1]
    at = jnp.linspace(0.0, n - 1.0, 2 * n)
    low = jnp.clip(jnp.floor(at).astype(int), 0, n - 2)
    part = at - low
    matrix = jnp.zeros((2 * n, n)).at[jnp.arange(2 * n), low].set(1 - part)
    matrix = matrix.at[jnp.arange(2 * n), low + 1].set(part)
    return jnp.einsum("ih,jw,bhwc->bijc", matrix, matrix, x)


class FlaxUNet(nn.Module):
    mistake: str = ""

    def setup(self):
        same = self.mistake == "transposed padding"
        self.enc = nn.Conv(4, (3, 3), padding=PAD1)
        self.down = nn.Conv(6, (3, 3), strides=2, padding=PAD1)
        self.mid = nn.Conv(6, (3, 3), padding=PAD1)
        self.refine = nn.Conv(6, (3, 3), padding=PAD1)
        self.squeeze = nn.Conv(6, (2, 2), strides=2, padding="VALID")
        padding = "SAME" if same else ((1, 2), (1, 2))
        self.up = nn.ConvTranspose(
            4, (3, 3), strides=(2, 2), padding=padding, transpose_kernel=True
        )
        self.dec = nn.Conv(2, (1, 1))

    def __call__(self, x):
        skip = nn.relu(self.enc(x))
        y = nn.relu(self.mid(nn.relu(self.down(skip))))
        y = nn.relu(self.refine(bilinear(y, self.mistake != "align corners")))
        y = nn.relu(self.up(nn.relu(self.squeeze(y))))
        both = [y, skip] if self.mistake == "concatenation" else [skip, y]
        return self.dec(jnp.concatenate(both, axis=-1)).transpose(0, 3, 1, 2)


class TorchUNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.down = torch.nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.mid = torch.nn.Conv2d(6, 6, 3, padding=1)
        self.refine = torch.nn.Conv2d(6, 6, 3, padding=1)
        self.squeeze = torch.nn.Conv2d(6, 6, 2, stride=2)
        self.up = torch.nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1)
        self.dec = torch.nn.Conv2d(8, 2, 1)

    def forward(self, x):
        skip = self.enc(x).relu()
        y = self.mid(self.down(skip).relu()).relu()
        y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=True)
        y = self.squeeze(self.refine(y).relu()).relu()
        y = self.up(y).relu()
        return self.dec(torch.cat([skip, y], dim=1))


def UNET(mistake, rng):
    options = {"channels_first": ("x",)}
    return Pair(FlaxUNet(mistake), TorchUNet(), images(rng), "", "", options)
