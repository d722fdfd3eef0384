"""Files that once ended fig with a traceback, or would have filled its memory; found by fuzzing."""

from __future__ import annotations

from pathlib import Path

import pytest

from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime import yamlfile

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(9)
)


@pytest.mark.parametrize(
    "text",
    ["a: \x00", "a: &a [*a]", BOMB, "[" * 3000, "a: !!int x", "a: !!timestamp x", "? [a]\n: b", "a: " + "9" * 5000],
)
def test_what_is_no_configuration_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "fig.yaml"
    file.write_text(text)
    with pytest.raises(FigError, match="bad_configuration") as refused:
        yamlfile.read(file)
    assert refused.value.context["line"] >= 1
