"""What all feature extractors and the processor have in common: the arguments of a call."""

import numpy as np
import pytest
import torch

from class_hf import (
    LexicalTokenizer,
    MoleculeFingerprintFeatureExtractor,
    MoleculeFusedFeatureExtractor,
    MoleculeGraphFeatureExtractor,
    OrmaFeatureExtractor,
    Text2MolFeatureExtractor,
    TextMoleculeProcessor,
)

EXTRACTORS = (
    MoleculeFingerprintFeatureExtractor,
    MoleculeFusedFeatureExtractor,
    MoleculeGraphFeatureExtractor,
    OrmaFeatureExtractor,
    Text2MolFeatureExtractor,
)


@pytest.mark.parametrize("extractor_class", EXTRACTORS)
def test_every_extractor_returns_tensors_or_arrays(extractor_class):
    extractor = extractor_class()
    tensors, arrays = extractor("CCO"), extractor(["CCO"], return_tensors="np")
    assert list(tensors) == list(arrays) == extractor.model_input_names
    for name in tensors:
        assert isinstance(tensors[name], torch.Tensor) and isinstance(arrays[name], np.ndarray)
        assert (tensors[name].numpy() == arrays[name]).all()


@pytest.mark.parametrize("extractor_class", EXTRACTORS)
def test_an_argument_without_effect_is_refused(extractor_class):
    with pytest.raises(TypeError, match="padding"):
        extractor_class()("CCO", padding=True)


def test_the_processor_refuses_a_misspelt_argument_and_returns_arrays():
    processor = TextMoleculeProcessor(LexicalTokenizer(), MoleculeFingerprintFeatureExtractor())
    with pytest.raises(TypeError, match="smile"):
        processor(text="An alcohol.", smile="CCO")
    arrays = processor(text="An alcohol.", smiles="CCO", return_tensors="np")
    assert all(isinstance(values, np.ndarray) for values in arrays.values())
