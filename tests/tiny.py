"""A backbone of width 8, so that tests train in seconds. Also how to add a backbone: all of it."""

from torch import nn

from openanimals.modeling import BACKBONE_REGISTRY, Backbone


@BACKBONE_REGISTRY.register("tiny")
def tiny(cfg):
    def layer(channels, width, stride):
        conv = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True))

    return Backbone(stem=layer(3, 8, 4), tail=layer(8, 8, 2), channels=8)
