"""Cell ids: each once, none empty."""

from __future__ import annotations

import numpy as np
import pytest

from stplm.errors import SectionError
from stplm.io.cell_ids import encode_cell_ids
from stplm.io.validate import check_cell_ids


def test_ids_are_told_apart_and_a_double_is_named() -> None:
    ids = encode_cell_ids(np.arange(1, 200_001)).astype(str)
    assert check_cell_ids(ids, "cells").tolist() == ids.tolist()
    with pytest.raises(SectionError, match="not unique") as caught:
        check_cell_ids(np.r_[ids, ids[7:8]], "cells")
    assert ids[7] in str(caught.value)
    with pytest.raises(SectionError, match="no id"):
        check_cell_ids(["a", "", "b"], "cells")
