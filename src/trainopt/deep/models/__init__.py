"""The networks that are trained from scratch."""

from trainopt.deep.models.cnn import CNN
from trainopt.deep.models.decoder import Decoder
from trainopt.deep.models.resnet import ResNet

__all__ = ["CNN", "Decoder", "ResNet"]
