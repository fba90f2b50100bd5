"""What a one-cycle schedule gives after its cycle, where torch has no rate to compare with."""

import numpy as np
import pytest

from jaxprob.optim import schedules
from parity_tests.tolerances import OPTIM


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("phases", [2, 3])
def test_one_cycle_keeps_the_last_rate(strategy, phases):
    """max_lr / 25 / 1e4 and the highest momentum; torch evaluates update 50 beyond the end."""
    options = {"anneal_strategy": strategy, "three_phase": phases == 3}
    after = np.array([49, 50, 51, 1000])
    rates = schedules.one_cycle_lr(0.3, 50, **options)(after)
    np.testing.assert_allclose(rates, 0.3 / 25 / 1e4, rtol=OPTIM["last rate"])
    np.testing.assert_allclose(
        schedules.one_cycle_momentum(50, **options)(after), 0.95, rtol=OPTIM["last momentum"]
    )
