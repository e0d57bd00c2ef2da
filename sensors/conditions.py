"""The house vocabulary: when an asset is remade. Each word is proved as a story in tests/automation.

Belongs here: named AutomationConditions. Does not belong here: sensors, or anything about one single asset.
"""

from __future__ import annotations

import dagster as dg

AC = dg.AutomationCondition

_nothing_in_the_way = ~AC.any_deps_missing() & ~AC.any_deps_in_progress() & ~AC.in_progress()

# What arrived while the condition was not watched counts as well, or drives that were landed first would wait for ever.
_became_missing = (AC.newly_missing() | AC.initial_evaluation()) & AC.missing()

# An input that was remade with the same bytes is not news.
_inputs_changed = AC.any_deps_match(AC.data_version_changed())

# By the times of the events: an input of what was made after it is not news either, whoever made it in whichever run.
# Production makes this true: it reads an input that changes meanwhile again before it reports.
_inputs_are_newer = AC.any_deps_match(AC.newly_updated()).since(AC.newly_updated())

# Dagster keeps the memory of a `since` under the kinds of its two roots: those in one condition must differ in them.
on_changed_content = (
    (
        _became_missing.since(AC.newly_requested() | AC.newly_updated())
        | AC.code_version_changed().since(AC.newly_requested() | AC.newly_updated())
        # The request of the look before did not know of what came since.
        | _inputs_changed.since((~_inputs_changed & AC.newly_requested()) | ~_inputs_are_newer)
    )
    & _nothing_in_the_way
).with_label("on_changed_content")
"""Missing, or an input has other bytes than the asset was made from, or the code changed."""

on_changed_drive = (
    on_changed_content.ignore(dg.AssetSelection.assets("map_tiles", "weather_observations"))
    & ~AC.any_deps_missing()
).with_label("on_changed_drive")
"""As on_changed_content, for assets that also read a part of what covers the whole world: a change there concerns few
drives, and sensors/outdated.py names them."""

# A fleet lands drives all day long: once a minute is often enough for what gathers them all.
_a_minute_passed = AC.cron_tick_passed("* * * * *").since(AC.newly_requested())
_members_changed = (_inputs_changed | (AC.initial_evaluation() & AC.missing())).since(
    # The request of the look before did not know of what came since.
    ~_inputs_changed & AC.newly_requested()
)

on_changed_members = (_members_changed & _a_minute_passed & ~AC.in_progress()).with_label(
    "on_changed_members"
)
"""Any member changed. Drives that are not there yet, or wait in quarantine, hold up nobody."""

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

every_night = (
    AC.cron_tick_passed("0 2 * * *").since(AC.newly_requested())
    & AC.in_latest_time_window()
    & ~AC.in_progress()
).with_label("every_night")
"""The running day, or the one partition there is."""

# A check has one result for all days of its asset: it speaks of the day that was looked at last.
_drift_check_failed = AC.any_deps_match(AC.any_checks_match(AC.check_failed()))

on_failed_drift_check = (
    _drift_check_failed.newly_true().since(AC.newly_requested())
    & _drift_check_failed
    & AC.in_latest_time_window()
    & ~AC.any_deps_missing()
    & ~AC.in_progress()
).with_label("on_failed_drift_check")
"""Once per change from passing to failing, not once per look, and for the newest day only."""

on_new_release = on_changed_content.ignore(dg.AssetSelection.assets("golden_slices")).with_label(
    "on_new_release"
)
"""A release names the dataset it learns from in its key: what else is frozen, in its week too, is not its business."""
