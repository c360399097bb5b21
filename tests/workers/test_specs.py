"""What the driver sends to workers arrives as what it was."""

import pickle

import pytest
from laptop import captioner, endpoint, scorer

from recap_spark.errors import SettingsError
from recap_spark.workers.captioning.captioner import CaptionerSpec
from recap_spark.workers.captioning.endpoint import EndpointCaptionerSpec


@pytest.mark.parametrize("spec", [captioner(), endpoint(), scorer()], ids=lambda spec: type(spec).__name__)
def test_a_worker_that_gets_the_same_spec_again_keeps_its_model(spec):
    again = pickle.loads(pickle.dumps(spec))
    assert (again, hash(again)) == (spec, hash(spec))


def test_a_captioner_is_not_taken_for_one_of_the_other_kind():
    with pytest.raises(SettingsError, match="want one with engine: slots or generate, found miniature_s"):
        CaptionerSpec(endpoint().settings).captioner  # noqa: B018  it is asked, not used
    with pytest.raises(SettingsError, match="want one with engine: endpoint, found miniature with"):
        EndpointCaptionerSpec(captioner().settings).captioner  # noqa: B018
