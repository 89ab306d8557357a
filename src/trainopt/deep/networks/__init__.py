"""The networks that are trained from scratch."""

from trainopt.deep.networks.cnn import CNN
from trainopt.deep.networks.decoder import Decoder
from trainopt.deep.networks.resnet import ResNet

__all__ = ["CNN", "Decoder", "ResNet"]
