"""The dashboards as files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.generator.health import health
from grafana.generator.invoice import invoice
from grafana.generator.spend import spend
from grafana.generator.usage import usage

DIRECTORY: Final = Path(__file__).parents[1] / "dashboards"


def files() -> Mapping[str, str]:
    """Texts by file names. The same code makes the same text: keys are sorted, and nothing in it tells when it was made."""
    made = {"usage": usage(), "spend": spend(), "health": health(), "invoice": invoice()}
    return {
        f"{name}.json": json.dumps(dashboard.build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for name, dashboard in made.items()
    }
