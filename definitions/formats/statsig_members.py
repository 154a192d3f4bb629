"""The members of Statsig's bodies and their JSON types (docs/formats.md 2.2, 2.4, 2.6)."""

from typing import Final

from .bodies import (
    BOOLEAN,
    LIST,
    NUMBER,
    NUMBER_OR_NULL,
    OBJECT,
    TEXT,
    TEXT_OR_NULL,
    TEXTS,
    Kind,
    is_text_list,
)

TEXT_OR_TEXTS: Final = Kind(
    "a string or a list of strings", lambda each: isinstance(each, str) or is_text_list(each)
)
ANYTHING: Final = Kind("", lambda _: True)
MEMBERS: Final = {
    "name": TEXT,
    "type": TEXT,
    "unitTypes": TEXTS,
    "metricEvents": LIST,
    "metricComponentMetrics": LIST,
    "funnelEventList": LIST,
    "funnelCountDistinct": ANYTHING,
    "rollupTimeWindow": TEXT,
    "customRollUpStart": NUMBER,
    "customRollUpEnd": NUMBER,
    "description": TEXT,
    "directionality": ANYTHING,
    "tags": TEXT_OR_TEXTS,
    "isPermanent": BOOLEAN,
    "isReadOnly": BOOLEAN,
    "isVerified": BOOLEAN,
    "team": TEXT_OR_NULL,
    "teamID": TEXT_OR_NULL,
    "dryRun": BOOLEAN,
    "warehouseNative": OBJECT,
}
# What an update may change; all else of a metric is fixed (CS21).
CHANGEABLE: Final = {
    "name",
    "description",
    "tags",
    "isVerified",
    "isReadOnly",
    "isPermanent",
    "warehouseNative",
    "unitTypes",
    "team",
    "teamID",
    "directionality",
    "dryRun",
    "owner",
}
EVENT: Final = {
    "name": TEXT,
    "type": ANYTHING,
    "metadataKey": TEXT_OR_NULL,
    "criteria": LIST,
}
CRITERION: Final = {
    "type": ANYTHING,
    "condition": ANYTHING,
    "column": TEXT_OR_NULL,
    "values": TEXTS,
    "nullVacuousOverride": BOOLEAN,
}
FUNNEL_EVENT: Final = {
    "criteria": LIST,
    "metricSourceName": TEXT_OR_NULL,
    "name": TEXT_OR_NULL,
    "sessionIdentifierField": TEXT_OR_NULL,
}
WAREHOUSE: Final = {
    **dict.fromkeys(("aggregation", "numeratorAggregation", "denominatorAggregation"), ANYTHING),
    **dict.fromkeys(
        (
            "metricSourceName",
            "valueColumn",
            "denominatorMetricSourceName",
            "denominatorValueColumn",
            "rollupTimeWindow",
            "denominatorRollupTimeWindow",
            "funnelCountDistinct",
            "funnelStartCriteria",
        ),
        TEXT_OR_NULL,
    ),
    **dict.fromkeys(("criteria", "denominatorCriteria", "funnelEvents"), LIST),
    "metricDimensionColumns": TEXTS,
    **dict.fromkeys(
        (
            "valueThreshold",
            "cap",
            "metricBakeDays",
            "denominatorCustomRollupStart",
            "denominatorCustomRollupEnd",
            "funnelCalculationWindow",
            "customRollUpStart",
            "customRollUpEnd",
            "percentile",
            "winsorizationHigh",
            "winsorizationLow",
            "winsorizationHighDenominator",
            "winsorizationLowDenominator",
            "cupedAttributionWindow",
            "funnelTimestampAllowanceMs",
            "logTransformBase",
            "retentionEnd",
            "retentionLength",
            "surrogateMetricMSE",
        ),
        NUMBER_OR_NULL,
    ),
    **dict.fromkeys(
        (
            "waitForCohortWindow",
            "allowNullRatioDenominator",
            "onlyIncludeUsersWithConversionEvent",
            "funnelStrictOrdering",
            "funnelUseExposureAsFirstEvent",
            "funnelTimeToConvert",
            "customRollupMeasureInMinutes",
            "denominatorCustomRollupMeasureInMinutes",
            "useLogTransform",
            "useSecondaryRetentionEvent",
        ),
        BOOLEAN,
    ),
}
