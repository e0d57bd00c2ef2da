"""Every threshold that a safety or data person may want to change, as versioned YAML with a typed model.

Each policy is a pair `<name>.py` (the model) and `<name>.yaml` (the numbers). Code holds algorithms, policies
hold numbers; the digest of the policy is stamped on whatever it decided.
Belongs here: models and numbers. Does not belong here: anything that acts on them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import ClassVar, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from av_assets.domain.errors import PolicyError

FOLDER = Path(__file__).parent
MAX_BYTES = 1 << 20


class Policy(BaseModel):
    """A frozen set of numbers with a name and a version; subclasses add the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: ClassVar[str]
    version: str

    @property
    def digest(self) -> str:
        """sha256 of the canonical JSON of all fields: equal numbers, equal digest, whatever the YAML looks like."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Read the shipped policy, or the one at `path`.

        Raises:
            PolicyError: the file is missing, too large, not YAML or not what the model allows.
        """
        path = path or FOLDER / f"{cls.name}.yaml"
        try:
            if path.stat().st_size > MAX_BYTES:
                raise PolicyError("policy file is larger than 1 MiB", code="policy_too_large", file=path)
            return cls.model_validate(yaml.safe_load(path.read_text("utf-8")))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise PolicyError(f"cannot read policy: {error}", code="policy_unreadable", file=path) from error
        except ValidationError as error:
            where = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise PolicyError(where, code="policy_invalid", file=path) from error
