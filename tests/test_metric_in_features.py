"""Memorisation, copying, precision and two-sample tests in the features of a classifier, on real digits."""

from __future__ import annotations

import pytest
import torch
from metric_models import Samples

from ganbench import api
from ganbench.execution.worker import load_data
from ganbench.metrics import variational
from ganbench.metrics.copying import DataCopying
from ganbench.metrics.memorisation import Memorisation
from ganbench.metrics.prdc import PrecisionRecall
from ganbench.metrics.two_sample import C2ST
from ganbench.metrics.variational import EstimatedDivergence


@pytest.mark.slow
def test_metrics_in_the_features_of_a_classifier(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(variational, "NETS_PER_HALF", 2)
    data = load_data(api.request("digits", [], []).dataset)
    train, fresh = data.floats(data.train), data.floats(data.valid)
    torch.manual_seed(0)
    worse = (fresh + 0.3 * torch.randn(fresh.shape)).clamp(0, 1)
    near = (train[:200] + 0.02 * torch.randn(fresh.shape)).clamp(0, 1)
    for metric in (Memorisation(200, "classifier"), DataCopying(200, features="classifier")):
        reference = metric.reference(data)
        found = [metric(Samples(x), data, reference) for x in (near, fresh, worse)]
        first = [score[0] if isinstance(score, tuple) else score for score in found]
        assert first[0].verdict.startswith("copies")
        assert not first[1].verdict.startswith("copies")
        assert first[2].verdict.startswith("far from the data")
        assert "a classifier (2 convolutions, 128 features)" in metric.protocol(data)
    for metric in (C2ST(200, features="classifier"), PrecisionRecall(200, features="classifier")):
        reference = metric.reference(data)
        fine, noisy = (metric(Samples(x), data, reference) for x in (fresh, worse))
        a, b = (score[0] if isinstance(score, tuple) else score for score in (fine, noisy))
        assert (a.value < b.value) == isinstance(metric, C2ST)
        assert "a classifier (2 convolutions, 128 features)" in metric.protocol(data)
    estimated = EstimatedDivergence(200, features="classifier")
    reference = estimated.reference(data)
    a, b = (estimated(Samples(x), data, reference).value for x in (fresh, worse))
    assert a < b
