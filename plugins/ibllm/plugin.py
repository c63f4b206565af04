"""What a plugin is written with: everything that is promised to authors, in one place, so that a room of the core may move without breaking a package.

Names are imported from where they live when they are first asked for: ``plugin.py`` and ``config.py`` of a package stay free of torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ibllm.added import added as added
    from ibllm.added import weighs as weighs
    from ibllm.blocks.attention import Attention as Attention
    from ibllm.blocks.attention import attention_bias as attention_bias
    from ibllm.blocks.attention import causal_mask as causal_mask
    from ibllm.blocks.attention import rotary_embedding as rotary_embedding
    from ibllm.blocks.borrowing import Backbone as Backbone
    from ibllm.blocks.borrowing import borrow as borrow
    from ibllm.blocks.borrowing import borrowed as borrowed
    from ibllm.blocks.cache import KeyValueCache as KeyValueCache
    from ibllm.blocks.canonical import CanonicalCorrelations as CanonicalCorrelations
    from ibllm.blocks.canonical import fit_canonical as fit_canonical
    from ibllm.blocks.contrast import local_contrast as local_contrast
    from ibllm.blocks.contrast import mean_colours as mean_colours
    from ibllm.blocks.digits import ChainedDigitHeads as ChainedDigitHeads
    from ibllm.blocks.digits import DigitEmbedding as DigitEmbedding
    from ibllm.blocks.digits import DigitHeads as DigitHeads
    from ibllm.blocks.digits import Digits as Digits
    from ibllm.blocks.digits import digit_losses as digit_losses
    from ibllm.blocks.digits import token_losses as token_losses
    from ibllm.blocks.fits import check_groups as check_groups
    from ibllm.blocks.fits import check_heads as check_heads
    from ibllm.blocks.guidance import concatenate_latents as concatenate_latents
    from ibllm.blocks.guidance import drop_condition as drop_condition
    from ibllm.blocks.guidance import guided as guided
    from ibllm.blocks.layers import Dropout as Dropout
    from ibllm.blocks.layers import FeedForward as FeedForward
    from ibllm.blocks.layers import GridPositions as GridPositions
    from ibllm.blocks.layers import Residual as Residual
    from ibllm.blocks.layers import dropout_off as dropout_off
    from ibllm.blocks.layers import into_range as into_range
    from ibllm.blocks.layers import masked_mean as masked_mean
    from ibllm.blocks.layers import position_embedding as position_embedding
    from ibllm.blocks.layers import word_dropout as word_dropout
    from ibllm.blocks.likelihood import generalised_normal as generalised_normal
    from ibllm.blocks.masked_tokens import gumbel as gumbel
    from ibllm.blocks.masked_tokens import k_smallest as k_smallest
    from ibllm.blocks.masked_tokens import mask_schedule as mask_schedule
    from ibllm.blocks.phrases import Phrases as Phrases
    from ibllm.blocks.phrases import spellings as spellings
    from ibllm.blocks.positives import Belonging as Belonging
    from ibllm.blocks.positives import belonging as belonging
    from ibllm.blocks.positives import cross_entropy as cross_entropy
    from ibllm.blocks.positives import positives as positives
    from ibllm.blocks.pretrained import adapt as adapt
    from ibllm.blocks.pretrained import dtype_of as dtype_of
    from ibllm.blocks.pretrained import library as library
    from ibllm.blocks.pretrained import load_local as load_local
    from ibllm.blocks.pretrained import recomputable as recomputable
    from ibllm.blocks.pretrained import settings_of as settings_of
    from ibllm.blocks.rectified_flow import MIN_TIME_LEFT as MIN_TIME_LEFT
    from ibllm.blocks.rectified_flow import TIMESTEP_WIDTH as TIMESTEP_WIDTH
    from ibllm.blocks.rectified_flow import bound_times as bound_times
    from ibllm.blocks.rectified_flow import path_bound as path_bound
    from ibllm.blocks.rectified_flow import timestep_embedding as timestep_embedding
    from ibllm.blocks.sampling import nucleus as nucleus
    from ibllm.blocks.solver import integrate as integrate
    from ibllm.blocks.streams import Stream as Stream
    from ibllm.blocks.works_on import PixelDecoderConfig as PixelDecoderConfig
    from ibllm.blocks.writing import TextDecoder as TextDecoder
    from ibllm.blocks.writing_config import PrefixedTextDecoderConfig as PrefixedTextDecoderConfig
    from ibllm.capabilities import CAPABILITIES as CAPABILITIES
    from ibllm.figures import IMAGE_TO_TEXT as IMAGE_TO_TEXT
    from ibllm.figures import NOT_INDEPENDENT as NOT_INDEPENDENT
    from ibllm.figures import ROUND_TRIP as ROUND_TRIP
    from ibllm.figures import TEXT_TO_IMAGE as TEXT_TO_IMAGE
    from ibllm.figures import Figure as Figure
    from ibllm.figures import Mark as Mark
    from ibllm.hashes import Keyed as Keyed
    from ibllm.hashes import cache_folder as cache_folder
    from ibllm.hashes import content_hashes as content_hashes
    from ibllm.images.facts import Facts as Facts
    from ibllm.images.facts import look as look
    from ibllm.images.incidents import Incidents as Incidents
    from ibllm.images.options import NAMED as NAMED
    from ibllm.images.options import StoredImagesConfig as StoredImagesConfig
    from ibllm.images.sources import ImageSource as ImageSource
    from ibllm.images.stored import StoredImages as StoredImages
    from ibllm.images.stored import decoded as decoded
    from ibllm.kinds import KINDS as KINDS
    from ibllm.knobs import turn as turn
    from ibllm.local_model import AdaptingConfig as AdaptingConfig
    from ibllm.local_model import find_folder as find_folder
    from ibllm.local_model import model_origin as model_origin
    from ibllm.nested_data import NestedData as NestedData
    from ibllm.nested_data import nested_data as nested_data
    from ibllm.pictures import Fit as Fit
    from ibllm.pictures import fitted as fitted
    from ibllm_core.errors import Notice as Notice
    from ibllm_core.errors import UserError as UserError
    from ibllm_core.errors import nearest as nearest
    from ibllm_core.host.hookspecs import hookimpl as hookimpl
    from ibllm_core.host.options import Config as Config
    from ibllm_core.host.options import DatasetConfig as DatasetConfig
    from ibllm_core.host.options import LossConfig as LossConfig
    from ibllm_core.host.options import MetricConfig as MetricConfig
    from ibllm_core.host.options import OptionError as OptionError
    from ibllm_core.host.options import option as option
    from ibllm_core.host.spec import ComponentSpec as ComponentSpec
    from ibllm_core.interfaces.batch import Batch as Batch
    from ibllm_core.interfaces.batch import to_images as to_images
    from ibllm_core.interfaces.batch import to_pixels as to_pixels
    from ibllm_core.interfaces.batch import to_tokens as to_tokens
    from ibllm_core.interfaces.context import Context as Context
    from ibllm_core.interfaces.context import ImageTokens as ImageTokens
    from ibllm_core.interfaces.dataset import Dataset as Dataset
    from ibllm_core.interfaces.dataset import Samples as Samples
    from ibllm_core.interfaces.image import Discriminator as Discriminator
    from ibllm_core.interfaces.image import DrawingDecoder as DrawingDecoder
    from ibllm_core.interfaces.image import ImageCodec as ImageCodec
    from ibllm_core.interfaces.image import ImageDecoder as ImageDecoder
    from ibllm_core.interfaces.image import ImageEncoder as ImageEncoder
    from ibllm_core.interfaces.image import ImageTokenizer as ImageTokenizer
    from ibllm_core.interfaces.image import LatentCodec as LatentCodec
    from ibllm_core.interfaces.image import Reconstruction as Reconstruction
    from ibllm_core.interfaces.image import TokenDecoder as TokenDecoder
    from ibllm_core.interfaces.latent import Latent as Latent
    from ibllm_core.interfaces.latent import Tokens as Tokens
    from ibllm_core.interfaces.latent import at_least_float32 as at_least_float32
    from ibllm_core.interfaces.loss import AdversarialLoss as AdversarialLoss
    from ibllm_core.interfaces.loss import CriticLoss as CriticLoss
    from ibllm_core.interfaces.loss import Loss as Loss
    from ibllm_core.interfaces.loss import Value as Value
    from ibllm_core.interfaces.loss import WholeBatchLoss as WholeBatchLoss
    from ibllm_core.interfaces.loss import log as log
    from ibllm_core.interfaces.noise import Rng as Rng
    from ibllm_core.interfaces.noise import on_device as on_device
    from ibllm_core.interfaces.optimisation import EvaluationWeights as EvaluationWeights
    from ibllm_core.interfaces.optimisation import Iteration as Iteration
    from ibllm_core.interfaces.optimisation import Optimizer as Optimizer
    from ibllm_core.interfaces.optimisation import Procedure as Procedure
    from ibllm_core.interfaces.optimisation import Schedule as Schedule
    from ibllm_core.interfaces.perturbation import Perturbation as Perturbation
    from ibllm_core.interfaces.randomness import derive_key as derive_key
    from ibllm_core.interfaces.reporting import Metric as Metric
    from ibllm_core.interfaces.reporting import Panel as Panel
    from ibllm_core.interfaces.reporting import Tracker as Tracker
    from ibllm_core.interfaces.text import TextEncoder as TextEncoder
    from ibllm_core.interfaces.tokenizer import BOS as BOS
    from ibllm_core.interfaces.tokenizer import EOS as EOS
    from ibllm_core.interfaces.tokenizer import PAD as PAD
    from ibllm_core.interfaces.tokenizer import SPECIAL as SPECIAL
    from ibllm_core.interfaces.tokenizer import UNK as UNK
    from ibllm_core.interfaces.tokenizer import Tokenizer as Tokenizer
    from ibllm_core.model.cycle import Cycle as Cycle
    from ibllm_core.model.evaluation import Evaluation as Evaluation
    from ibllm_core.model.model import Model as Model
    from ibllm_core.recipe.locate import Component as Component
    from ibllm_core.recipe.schema import Recipe as Recipe
    from ibllm_core.recipe.schema import Stage as Stage
    from ibllm_core.recipe.words import with_facts as with_facts
    from ibllm_core.training.events import Listener as Listener

#: Module → the names that it holds.
_HOMES = {
    "ibllm.added": "added weighs",
    "ibllm.knobs": "turn",
    "ibllm.blocks.attention": "Attention attention_bias causal_mask rotary_embedding",
    "ibllm.blocks.borrowing": "Backbone borrow borrowed",
    "ibllm.blocks.cache": "KeyValueCache",
    "ibllm.blocks.canonical": "CanonicalCorrelations fit_canonical",
    "ibllm.blocks.contrast": "local_contrast mean_colours",
    "ibllm.blocks.digits": "ChainedDigitHeads digit_losses DigitEmbedding DigitHeads Digits token_losses",
    "ibllm.blocks.fits": "check_groups check_heads",
    "ibllm.blocks.guidance": "concatenate_latents drop_condition guided",
    "ibllm.blocks.layers": "Dropout dropout_off FeedForward GridPositions into_range masked_mean position_embedding Residual word_dropout",
    "ibllm.blocks.likelihood": "generalised_normal",
    "ibllm.blocks.masked_tokens": "gumbel k_smallest mask_schedule",
    "ibllm.blocks.phrases": "Phrases spellings",
    "ibllm.blocks.positives": "Belonging belonging cross_entropy positives",
    "ibllm.blocks.pretrained": "adapt dtype_of library load_local recomputable settings_of",
    "ibllm.blocks.rectified_flow": "bound_times MIN_TIME_LEFT path_bound timestep_embedding TIMESTEP_WIDTH",
    "ibllm.blocks.sampling": "nucleus",
    "ibllm.blocks.solver": "integrate",
    "ibllm.blocks.streams": "Stream",
    "ibllm.blocks.works_on": "PixelDecoderConfig",
    "ibllm.blocks.writing_config": "PrefixedTextDecoderConfig",
    "ibllm.blocks.writing": "TextDecoder",
    "ibllm.capabilities": "CAPABILITIES",
    "ibllm.figures": "Figure IMAGE_TO_TEXT Mark NOT_INDEPENDENT ROUND_TRIP TEXT_TO_IMAGE",
    "ibllm.hashes": "cache_folder content_hashes Keyed",
    "ibllm.images.facts": "Facts look",
    "ibllm.images.incidents": "Incidents",
    "ibllm.images.options": "NAMED StoredImagesConfig",
    "ibllm.images.sources": "ImageSource",
    "ibllm.images.stored": "decoded StoredImages",
    "ibllm.kinds": "KINDS",
    "ibllm.local_model": "AdaptingConfig find_folder model_origin",
    "ibllm.nested_data": "nested_data NestedData",
    "ibllm.pictures": "Fit fitted",
    "ibllm_core.errors": "nearest Notice UserError",
    "ibllm_core.host.hookspecs": "hookimpl",
    "ibllm_core.host.options": "Config DatasetConfig LossConfig MetricConfig option OptionError",
    "ibllm_core.host.spec": "ComponentSpec",
    "ibllm_core.interfaces.batch": "Batch to_images to_pixels to_tokens",
    "ibllm_core.interfaces.context": "Context ImageTokens",
    "ibllm_core.interfaces.dataset": "Dataset Samples",
    "ibllm_core.interfaces.image": (
        "Discriminator DrawingDecoder ImageCodec ImageDecoder ImageEncoder ImageTokenizer LatentCodec Reconstruction TokenDecoder"
    ),
    "ibllm_core.interfaces.latent": "at_least_float32 Latent Tokens",
    "ibllm_core.interfaces.loss": "AdversarialLoss CriticLoss log Loss Value WholeBatchLoss",
    "ibllm_core.interfaces.noise": "on_device Rng",
    "ibllm_core.interfaces.optimisation": "EvaluationWeights Iteration Optimizer Procedure Schedule",
    "ibllm_core.interfaces.perturbation": "Perturbation",
    "ibllm_core.interfaces.randomness": "derive_key",
    "ibllm_core.interfaces.reporting": "Metric Panel Tracker",
    "ibllm_core.interfaces.text": "TextEncoder",
    "ibllm_core.interfaces.tokenizer": "BOS EOS PAD SPECIAL Tokenizer UNK",
    "ibllm_core.model.cycle": "Cycle",
    "ibllm_core.model.evaluation": "Evaluation",
    "ibllm_core.model.model": "Model",
    "ibllm_core.recipe.locate": "Component",
    "ibllm_core.recipe.schema": "Recipe Stage",
    "ibllm_core.recipe.words": "with_facts",
    "ibllm_core.training.events": "Listener",
}
_WHERE = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
