"""What is looked for, and the numbers of the search: mining specs, weights, duplicates, limits.

A spec says which clips may be labelled next. Its keys are joined by AND; contradictions are refused when it is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from av_assets.domain.errors import PolicyError
from av_assets.domain.mining.columns import COLUMNS, UNKNOWN
from av_assets.policies import MAX_BYTES, Policy

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Values = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,99}$")]
MOST_SPECS = 500
ACCEPTED_FOLDER = "mining"  # in the folder of the installation's policies: specs that people accepted


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Predicate(_Part):
    """What one column must be. A list or a plain text in YAML is short for `any_of`.

    A value that is not known passes only `known: false`, or `any_of` with the value `unknown`.
    """

    any_of: Values | None = Field(
        default=None, description="text: one of these; lists: at least one of these"
    )
    none_of: Values | None = Field(default=None, description="text and lists: none of these")
    min: Number | None = Field(default=None, description="at least")
    max: Number | None = Field(default=None, description="at most")
    below: Number | None = Field(default=None, description="less than")
    known: bool | None = Field(default=None, description="whether there must be a value")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"any_of": [value]}
        return {"any_of": value} if isinstance(value, (list, tuple)) else value

    def words(self) -> str:
        """The predicate as a person would say it."""
        parts = [] if self.any_of is None else [" or ".join(f"'{v}'" for v in self.any_of)]
        parts += [] if self.none_of is None else ["not " + " nor ".join(f"'{v}'" for v in self.none_of)]
        bounds = ((">=", self.min), ("<=", self.max), ("<", self.below))
        parts += [f"{sign} {bound:g}" for sign, bound in bounds if bound is not None]
        parts += [] if self.known is None else ["known" if self.known else UNKNOWN]
        return " and ".join(parts)


def _known_columns(where: dict[str, Predicate]) -> dict[str, Predicate]:
    """Every column is of the closed list, and is asked what its kind can answer."""
    for column, predicate in where.items():
        kind = COLUMNS.get(column)
        if kind is None:
            raise ValueError(f"no such column: {column}; there are {', '.join(sorted(COLUMNS))}")
        given = set(predicate.model_dump(exclude_none=True))
        allowed = {"min", "max", "below", "known"} if kind == "number" else {"any_of", "none_of", "known"}
        if not given:
            raise ValueError(f"{column} asks for nothing")
        if wrong := sorted(given - allowed):
            raise ValueError(f"{column} is a {kind}: it has no {', '.join(wrong)}")
    return where


Where = Annotated[dict[str, Predicate], AfterValidator(_known_columns)]


class Quota(_Part):
    """A slice of the chosen clips that may take only so many labels; slices may overlap."""

    where: Where = Field(min_length=1)
    at_most: Annotated[int, Field(ge=0)]


class Weights(_Part):
    """Shares of the score; only their ratios matter. What is not known of a clip gives its weight to the rest."""

    relevance: NotNegative = Field(description="place in the fused rankings of text, like and sequence")
    rarity: NotNegative = Field(description="-log of the share of the clip's slice among the candidates")
    uncertainty: NotNegative = Field(description="of the automatic labels' scores")
    disagreement: NotNegative = Field(description="of people with the automatic labels")
    diversity: NotNegative = Field(description="what the clip adds to what the chosen ones already look like")

    @model_validator(mode="after")
    def _something_counts(self) -> Weights:
        if not sum(self.model_dump().values()) > 0:
            raise ValueError("all weights are zero")
        return self


class MiningSpec(_Part):
    """One question to the catalogue, and how many labels its answer may cost.

    Raises:
        PolicyError: contradictory_spec, with both keys.
    """

    name: Name
    why: Annotated[str, Field(max_length=500)] = ""
    where: Where = Field(default_factory=dict)
    text: Annotated[str, Field(max_length=500)] | None = Field(
        default=None, description="words of the scene's description"
    )
    like: Annotated[str, Field(max_length=300)] | None = Field(default=None, description="clip id")
    sequence: Annotated[str, Field(max_length=4000)] | None = Field(
        default=None, description="expression of the sequence language"
    )
    budget: Annotated[int, Field(ge=1, le=10_000)] = Field(description="clips that may be sent to people")
    quotas: dict[Name, Quota] = Field(default_factory=dict, max_length=50)
    weights: Weights | None = Field(default=None, description="instead of the policy's")
    exclude_training: bool = Field(default=True, description="leave out what golden datasets hold already")

    @model_validator(mode="after")
    def _has_no_contradiction(self) -> MiningSpec:
        wheres = {"where": self.where} | {f"quotas.{n}.where": q.where for n, q in self.quotas.items()}
        for path, where in wheres.items():
            for column, predicate in where.items():
                _refuse(
                    self.name,
                    _contradiction(column, predicate, predicate),
                    f"{path}.{column}",
                    f"{path}.{column}",
                )
        for path, where in wheres.items():
            for column in where.keys() & self.where.keys() if path != "where" else ():
                clash = _contradiction(column, self.where[column], where[column])
                _refuse(self.name, clash, f"where.{column}", f"{path}.{column}")
        return self


class MiningPolicy(Policy):
    """Numbers that all specs share, and the specs that are run every night."""

    name: ClassVar[str] = "mining"
    camera: str = Field(description="whose pictures are compared")
    rrf_k: Annotated[int, Field(ge=0)] = Field(description="constant of reciprocal rank fusion")
    like_nearest: Annotated[int, Field(ge=1)] = Field(description="clips that count as like the given one")
    max_candidates: Annotated[int, Field(ge=1, le=200_000)] = Field(
        description="clips of one spec whose pictures are compared; the most relevant, then the newest"
    )
    keyframes: Annotated[int, Field(ge=1, le=20)]
    dhash_max_hamming: Annotated[int, Field(ge=0, le=64)] = Field(
        description="bits of 64 in which every keyframe of two near-duplicates may differ at most"
    )
    semdedup_eps: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="vectors with a cosine above 1 - eps show the same"
    )
    semdedup_cell: Annotated[int, Field(ge=2)] = Field(description="vectors per k-means cell, about")
    seed: int
    rarity_by: Annotated[tuple[str, ...], Field(min_length=1)] = Field(description="columns that cut slices")
    uncertainty: Literal["entropy", "one_minus_max"]
    uncertain_boxes: Annotated[int, Field(ge=1)] = Field(
        description="a clip is as uncertain as its worst boxes"
    )
    weights: Weights
    pool: Annotated[int, Field(ge=1, le=10_000)] = Field(
        description="best candidates among which the diverse ones are chosen"
    )
    specs: tuple[MiningSpec, ...]

    @field_validator("rarity_by")
    @classmethod
    def _slices_are_texts(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [name for name in names if COLUMNS.get(name) != "text"]:
            raise ValueError(f"no columns of texts: {', '.join(wrong)}")
        return names

    @model_validator(mode="after")
    def _names_are_unique(self) -> MiningPolicy:
        _require_unique(self.specs)
        return self


class _SpecFile(_Part):
    version: str = "1.0.0"
    specs: Annotated[tuple[MiningSpec, ...], Field(min_length=1, max_length=MOST_SPECS)]


def load_specs(path: Path) -> tuple[MiningSpec, ...]:
    """The specs of a YAML file with a list `specs`.

    Raises:
        PolicyError: policy_unreadable, policy_too_large, policy_invalid, contradictory_spec, duplicate_spec.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise PolicyError("spec file is larger than 1 MiB", code="policy_too_large", file=path)
        specs = _SpecFile.model_validate(yaml.safe_load(data.decode("utf-8"))).specs
        _require_unique(specs)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise PolicyError(f"cannot read specs: {error}", code="policy_unreadable", file=path) from error
    except ValidationError as error:
        where = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:10])
        raise PolicyError(where, code="policy_invalid", file=path) from error
    except PolicyError as error:
        raise PolicyError(error.reason, code=error.code, file=path, remedy=error.remedy) from error
    return specs


def dump_specs(specs: tuple[MiningSpec, ...] | list[MiningSpec]) -> str:
    """YAML that `load_specs` reads back to the same specs."""
    rows = [spec.model_dump(mode="json", exclude_none=True, exclude_defaults=True) for spec in specs]
    return str(yaml.safe_dump({"version": "1.0.0", "specs": rows}, sort_keys=False, allow_unicode=True))


def _require_unique(specs: tuple[MiningSpec, ...]) -> None:
    names = [spec.name for spec in specs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PolicyError(f"two specs are named {twice[0]}", code="duplicate_spec")


def _refuse(spec: str, clash: tuple[str, str] | None, one: str, other: str) -> None:
    if clash is not None:
        keys = f"{one}.{clash[0]} and {other}.{clash[1]}"
        raise PolicyError(
            f"spec {spec}: {keys} contradict each other",
            code="contradictory_spec",
            remedy="change one of the two keys",
        )


def _contradiction(column: str, a: Predicate, b: Predicate) -> tuple[str, str] | None:
    """Keys of `a` and `b` that no value can satisfy together. A list may hold two values at once, a text not."""
    if COLUMNS[column] == "text" and a.any_of and b.any_of and not set(a.any_of) & set(b.any_of):
        return "any_of", "any_of"
    for one, other in ((a, b), (b, a)):
        if one.any_of and other.none_of and set(one.any_of) <= set(other.none_of):
            return _in_order(a, one, "any_of", "none_of")
        if one.known is False:
            for key in ("min", "max", "below", "any_of"):
                asked = getattr(other, key)
                if asked is not None and UNKNOWN not in (asked if key == "any_of" else ()):
                    return _in_order(a, one, "known", key)
            if other.known:
                return _in_order(a, one, "known", "known")
        if one.known and other.any_of == (UNKNOWN,):
            return _in_order(a, one, "known", "any_of")
        if one.min is not None and other.max is not None and one.min > other.max:
            return _in_order(a, one, "min", "max")
        if one.min is not None and other.below is not None and one.min >= other.below:
            return _in_order(a, one, "min", "below")
    return None


def _in_order(a: Predicate, one: Predicate, of_one: str, of_other: str) -> tuple[str, str]:
    return (of_one, of_other) if one is a else (of_other, of_one)
