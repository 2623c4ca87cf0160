"""Tip-Adapter and Tip-Adapter-F: the published numbers, the search, checkpoints of other sizes."""

import pytest
import torch

import train
from dassl.engine import TRAINER_REGISTRY
from tests.helpers.golden_files import LOGITS, REST, Golden, assert_close, clip
from tests.helpers.toy_run import build, classify, command, state_of
from trainers.tip_adapter import TipAdapterMethod, TipAdapterSettings
from training.feature_fit import Features, image_features
from training.method import normalize
from training.templates import SELECTED_TEMPLATES
