"""The house vocabulary: when an asset is remade. Each word is proved as a story in tests/automation.

Belongs here: named AutomationConditions. Does not belong here: sensors, or anything about one single asset.
"""

from __future__ import annotations

import dagster as dg

AC = dg.AutomationCondition

_nothing_in_the_way = ~AC.any_deps_missing() & ~AC.any_deps_in_progress() & ~AC.in_progress()

# What arrived while the condition was not watched counts as well, or drives that were landed first would wait for ever.
_became_missing = AC.newly_missing() | (AC.initial_evaluation() & AC.missing())

# An input that this very run remade is not news; an input that was remade with the same bytes is not news either.
_inputs_changed = AC.any_deps_match(AC.data_version_changed() & ~AC.executed_with_root_target())

_out_of_date = _inputs_changed | AC.code_version_changed()

# A look that falls between the steps of one run may see an input's new bytes before it sees whose run they came from.
_made_with_its_inputs = AC.newly_updated() & AC.any_deps_match(AC.executed_with_root_target())

on_changed_content = (
    (
        # Whoever made it, a backfill or the run of a landed drive, it is missing no more.
        _became_missing.since(AC.newly_requested() | AC.newly_updated())
        # Only a request answers these, since a run that was going on had read older bytes; and not the request of the
        # look before, which did not know of them.
        | _out_of_date.since((~_out_of_date & AC.newly_requested()) | _made_with_its_inputs)
    )
    & _nothing_in_the_way
).with_label("on_changed_content")
"""Missing, or an input has other bytes, or the code changed; updates that land during a run are kept for after it."""

until_present = (AC.missing() & ~AC.in_progress() & ~AC.execution_failed()).with_label("until_present")
"""Made once; a failure waits for a person."""

every_monday = (
    AC.cron_tick_passed("0 6 * * 1").since(AC.newly_requested())
    & AC.in_latest_time_window()
    & ~AC.in_progress()
).with_label("every_monday")
"""The latest finished week, frozen whether or not anything changed."""

every_morning = (
    AC.cron_tick_passed("0 6 * * *").since(AC.newly_requested())
    & AC.in_latest_time_window()
    & ~AC.in_progress()
).with_label("every_morning")

on_failed_drift_check = (
    AC.any_deps_match(AC.any_checks_match(AC.check_failed())).newly_true().since(AC.newly_requested())
    & ~AC.in_progress()
).with_label("on_failed_drift_check")
"""Once per change from passing to failing, not once per look."""

on_new_release = on_changed_content.ignore(dg.AssetSelection.assets("golden_slices")).with_label(
    "on_new_release"
)
"""A release names the week it learns from in its key: other weeks of the dataset are not its business."""
