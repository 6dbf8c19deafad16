"""What the three dashboards are built of: queries of both data sources, variables, and panels.

Every panel says what it shows, in which unit, and from where on that is bad. Both data sources are
variables, so that the dashboards can be imported into any Grafana.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    prometheus,
    stat,
    statetimeline,
    statushistory,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import (
    common as common_builders,
)
from grafana_foundation_sdk.builders import (
    dashboard as builders,
)
from grafana_foundation_sdk.cog import builder as cog_builder
from grafana_foundation_sdk.cog import runtime as cog_runtime
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import Dataquery as PrometheusQuery
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

POSTGRESQL = "grafana-postgresql-datasource"
LEDGER = dashboard.DataSourceRef(type_val=POSTGRESQL, uid="${ledger}")
METRICS = dashboard.DataSourceRef(type_val="prometheus", uid="${prometheus}")

RUNBOOKS = "docs/operating/alerts.md"
"""Where the runbooks are; panels link to their parts."""

GREEN, AMBER, RED, BLUE, GREY = "green", "orange", "red", "blue", "#8e8e8e"

PanelBuilder = (
    stat.Panel
    | table.Panel
    | timeseries.Panel
    | bargauge.Panel
    | statushistory.Panel
    | statetimeline.Panel
)
Builder = TypeVar(
    "Builder",
    stat.Panel,
    table.Panel,
    timeseries.Panel,
    bargauge.Panel,
    statushistory.Panel,
    statetimeline.Panel,
)


# --- queries ------------------------------------------------------------------------------


class LedgerQuery(variants.Dataquery):
    """A query of the ledger's views. The SDK has no PostgreSQL query of its own."""

    def __init__(self, *, sql: str, shape: str, ref_id: str) -> None:
        self.sql = sql
        self.shape = shape
        self.ref_id = ref_id

    def to_json(self) -> dict[str, object]:
        """Give it as Grafana keeps it."""
        return {
            "refId": self.ref_id,
            "datasource": LEDGER,
            "editorMode": "code",
            "format": self.shape,
            "rawQuery": True,
            "rawSql": self.sql,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read it as Grafana keeps it."""
        return cls(sql=data["rawSql"], shape=data["format"], ref_id=data["refId"])


class _Built(cog_builder.Builder[variants.Dataquery]):
    """A query that needs no more building."""

    def __init__(self, query: variants.Dataquery) -> None:
        self._query = query

    def build(self) -> variants.Dataquery:
        """Give the query."""
        return self._query


Query = cog_builder.Builder[variants.Dataquery]


def register() -> None:
    """Make the SDK read the ledger's queries, and all that it knows itself."""
    register_default_plugins()
    cog_runtime.register_dataquery_variant(
        cog_runtime.DataqueryConfig(identifier=POSTGRESQL, from_json_hook=LedgerQuery.from_json)
    )


def rows(sql: str, ref_id: str = "A") -> Query:
    """Ask the ledger for a table."""
    return _Built(LedgerQuery(sql=sql.strip(), shape="table", ref_id=ref_id))


def series(sql: str, ref_id: str = "A") -> Query:
    """Ask the ledger for series: the column `time`, perhaps `metric`, and values."""
    return _Built(LedgerQuery(sql=sql.strip(), shape="time_series", ref_id=ref_id))


def graph(expression: str, legend: str = "__auto", ref_id: str = "A") -> Query:
    """Ask Prometheus for series over the dashboard's time."""
    asked = prometheus.Dataquery().expr(expression).range().legend_format(legend)
    return asked.ref_id(ref_id).datasource(METRICS)


def instant(expression: str, legend: str = "__auto", ref_id: str = "A") -> Query:
    """Ask Prometheus for how it is now."""
    asked = prometheus.Dataquery().expr(expression).instant().legend_format(legend)
    return asked.ref_id(ref_id).format(PromQueryFormat.TABLE).datasource(METRICS)


def where(*columns: str) -> str:
    """Give the condition that the variables of these names put on columns of the same names.

    An array, so that it holds in a ledger that is still empty: `IN ()` would be no SQL.
    """
    return " AND ".join(f"{each} = ANY(ARRAY[${{{each}:sqlstring}}]::text[])" for each in columns)


# --- variables ----------------------------------------------------------------------------


def source_variables() -> list[cog_builder.Builder[dashboard.VariableModel]]:
    """Give the choice of both data sources."""
    return [
        builders.DatasourceVariable("ledger")
        .label("Ledger")
        .description("The PostgreSQL data source that reads the ledger's views.")
        .type(POSTGRESQL),
        builders.DatasourceVariable("prometheus")
        .label("Prometheus")
        .description("The data source that has sensordropd's metrics.")
        .type("prometheus"),
    ]


SCOPE = ("client", "project", "cycle", "delivery")
"""The variables of every dashboard, each of them narrowed down by those before it."""


def scope_variables() -> list[cog_builder.Builder[dashboard.VariableModel]]:
    """Give the choice of clients, projects, cycles and deliveries."""
    made: list[cog_builder.Builder[dashboard.VariableModel]] = []
    for at, name in enumerate(SCOPE):
        narrowed = f" WHERE {where(*SCOPE[:at])}" if at else ""
        sql = f"SELECT DISTINCT {name} FROM grafana.delivery_progress{narrowed} ORDER BY 1"
        made.append(
            builders.QueryVariable(name)
            .label(name.capitalize())
            .description(f"Which {name} is shown; all unless chosen.")
            .datasource(LEDGER)
            .query(sql)
            .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)
            .include_all(True)
            .current(dashboard.VariableOption(selected=True, text=["All"], value=["$__all"]))
        )
    return made


def instance_variable() -> cog_builder.Builder[dashboard.VariableModel]:
    """Give the choice of daemons, as Prometheus knows them."""
    return (
        builders.QueryVariable("instance")
        .label("Daemon")
        .description("Whose metrics are shown: the address that Prometheus scrapes.")
        .datasource(METRICS)
        .query("label_values(sensordrop_build_info, instance)")
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .current(dashboard.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


# --- panels -------------------------------------------------------------------------------

Steps = Sequence[tuple[float | None, str]]
"""From which value on which colour holds; the first value is None."""
CALM: Steps = ((None, BLUE),)
"""For what is neither good nor bad."""
NONE_IS_GOOD: Steps = ((None, GREEN), (1, RED))
FEW_IS_GOOD: Steps = ((None, GREEN), (1, AMBER))
ONE_IS_GOOD: Steps = ((None, RED), (1, GREEN))


def thresholds(steps: Steps) -> builders.ThresholdsConfig:
    """Colour by value."""
    return (
        builders.ThresholdsConfig()
        .mode(dashboard.ThresholdsMode.ABSOLUTE)
        .steps([dashboard.Threshold(value=value, color=colour) for value, colour in steps])
    )


def by_thresholds() -> builders.FieldColor:
    """Take the colour from the thresholds."""
    return builders.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS)


def _panel(
    made: Builder,
    *,
    title: str,
    about: str,
    unit: str,
    steps: Steps,
    source: dashboard.DataSourceRef,
    queries: Sequence[Query],
    size: tuple[int, int],
    runbook: str | None,
) -> Builder:
    """Put into a panel what every panel has. `size` is width (of 24) and height."""
    made.title(title).description(about).unit(unit).thresholds(thresholds(steps))
    made.datasource(source).span(size[0]).height(size[1])
    for query in queries:
        made.with_target(query)
    if runbook is not None:
        made.links(
            [
                builders.DashboardLink("What to do")
                .type(dashboard.DashboardLinkType.LINK)
                .url(f"{RUNBOOKS}#{runbook}")
                .target_blank(True)
            ]
        )
    return made


def _source(queries: Sequence[Query]) -> dashboard.DataSourceRef:
    built = [query.build() for query in queries]
    if all(isinstance(each, PrometheusQuery) for each in built):
        return METRICS
    assert not any(isinstance(each, PrometheusQuery) for each in built), "one source for a panel"
    return LEDGER


def figure(
    title: str,
    about: str,
    *queries: Query,
    unit: str = "short",
    steps: Steps = CALM,
    none: str = "none",
    width: int = 4,
    runbook: str | None = None,
) -> stat.Panel:
    """Show one number, large. `none` is shown where there is no answer."""
    made = _panel(
        stat.Panel(), title=title, about=about, unit=unit, steps=steps, source=_source(queries),
        queries=queries, size=(width, 4), runbook=runbook,
    )  # fmt: skip
    made.color_scheme(by_thresholds()).no_value(none)
    made.graph_mode(common.BigValueGraphMode.NONE).color_mode(common.BigValueColorMode.VALUE)
    return made.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))


def lines(
    title: str,
    about: str,
    *queries: Query,
    unit: str,
    steps: Steps = CALM,
    width: int = 12,
    height: int = 8,
    stacked: bool = False,
    bars: bool = False,
    lowest: float | None = 0,
    runbook: str | None = None,
) -> timeseries.Panel:
    """Show series over time."""
    made = _panel(
        timeseries.Panel(), title=title, about=about, unit=unit, steps=steps,
        source=_source(queries), queries=queries, size=(width, height), runbook=runbook,
    )  # fmt: skip
    made.color_scheme(builders.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC))
    made.fill_opacity(70 if bars else 12).line_width(1)
    made.show_points(common.VisibilityMode.AUTO)
    if lowest is not None:
        made.axis_soft_min(lowest)
    if bars:
        made.draw_style(common.GraphDrawStyle.BARS)
    if stacked:
        made.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if steps is not CALM:
        shown = common_builders.GraphThresholdsStyleConfig()
        made.thresholds_style(shown.mode(common.GraphThresholdsStyleMode.DASHED))
    return made.tooltip(
        common_builders.VizTooltipOptions()
        .mode(common.TooltipDisplayMode.MULTI)
        .sort(common.SortOrder.DESCENDING)
    )


def listing(
    title: str,
    about: str,
    *queries: Query,
    unit: str = "short",
    steps: Steps = CALM,
    columns: Mapping[str, Mapping[str, object]] | None = None,
    sort: str | None = None,
    width: int = 24,
    height: int = 9,
    runbook: str | None = None,
) -> table.Panel:
    """Show a table. `columns` says for a column what differs there, such as `unit`."""
    made = _panel(
        table.Panel(), title=title, about=about, unit=unit, steps=steps, source=_source(queries),
        queries=queries, size=(width, height), runbook=runbook,
    )  # fmt: skip
    for name, differs in (columns or {}).items():
        made.override_by_name(name, _properties(differs))
    if sort is not None:
        made.sort_by([common_builders.TableSortByFieldState().display_name(sort).desc(True)])
    made.align(common.FieldTextAlignment.AUTO).inspect(False)
    return made.cell_height(common.TableCellHeight.SM)


def _properties(differs: Mapping[str, object]) -> list[dashboard.DynamicConfigValue]:
    """Write out what differs in a column."""
    made = []
    for key, value in differs.items():
        if key == "steps":
            assert isinstance(value, tuple)
            made += [
                dashboard.DynamicConfigValue(
                    id_val="thresholds",
                    value={
                        "mode": "absolute",
                        "steps": [{"value": at, "color": colour} for at, colour in value],
                    },
                ),
                dashboard.DynamicConfigValue(
                    id_val="custom.cellOptions", value={"type": "color-text"}
                ),
            ]
        elif key == "gauge":
            made += [
                dashboard.DynamicConfigValue(id_val="min", value=0),
                dashboard.DynamicConfigValue(id_val="max", value=1),
                dashboard.DynamicConfigValue(
                    id_val="custom.cellOptions", value={"type": "gauge", "mode": "basic"}
                ),
            ]
        else:
            made.append(dashboard.DynamicConfigValue(id_val=key, value=value))
    return made


def gauges(
    title: str,
    about: str,
    *queries: Query,
    unit: str = "percentunit",
    steps: Steps = CALM,
    none: str = "none",
    width: int = 12,
    height: int = 8,
    runbook: str | None = None,
) -> bargauge.Panel:
    """Show a bar for each series, from nothing to all."""
    made = _panel(
        bargauge.Panel(), title=title, about=about, unit=unit, steps=steps,
        source=_source(queries), queries=queries, size=(width, height), runbook=runbook,
    )  # fmt: skip
    made.min(0).max(1).no_value(none).orientation(common.VizOrientation.HORIZONTAL)
    made.display_mode(common.BarGaugeDisplayMode.BASIC).color_scheme(by_thresholds())
    return made.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))


def heatmap(
    title: str,
    about: str,
    *queries: Query,
    unit: str,
    steps: Steps,
    height: int = 14,
    runbook: str | None = None,
) -> statushistory.Panel:
    """Show a row for each series and a box for each time, coloured by value.

    Grafana's own heatmap takes rows with numeric names, as serial numbers are, for buckets.
    """
    made = _panel(
        statushistory.Panel(), title=title, about=about, unit=unit, steps=steps,
        source=_source(queries), queries=queries, size=(24, height), runbook=runbook,
    )  # fmt: skip
    made.color_scheme(by_thresholds()).show_value(common.VisibilityMode.NEVER)
    made.row_height(0.9).col_width(0.9).per_page(40).line_width(0).fill_opacity(90)
    return made.legend(
        common_builders.VizLegendOptions()
        .show_legend(True)
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
    )


def states(
    title: str,
    about: str,
    *queries: Query,
    steps: Steps,
    texts: Mapping[str, tuple[str, str]],
    width: int = 12,
    height: int = 8,
    runbook: str | None = None,
) -> statetimeline.Panel:
    """Show a band for each series, coloured by value; `texts` are words and colours of values."""
    made = _panel(
        statetimeline.Panel(), title=title, about=about, unit="none", steps=steps,
        source=_source(queries), queries=queries, size=(width, height), runbook=runbook,
    )  # fmt: skip
    mapped = {
        value: dashboard.ValueMappingResult(text=text, color=colour, index=at)
        for at, (value, (text, colour)) in enumerate(texts.items())
    }
    made.mappings([dashboard.ValueMap(options=mapped)]).color_scheme(by_thresholds())
    made.fill_opacity(70).line_width(0)
    return made.show_value(common.VisibilityMode.NEVER).row_height(0.85).merge_values(True)


# --- dashboards ---------------------------------------------------------------------------


def board(
    uid: str,
    title: str,
    about: str,
    variables: Sequence[cog_builder.Builder[dashboard.VariableModel]],
    parts: Mapping[str, Sequence[PanelBuilder]],
    *,
    since: str,
    refresh: str,
) -> dashboard.Dashboard:
    """Put a dashboard together of rows, each with its panels."""
    made = (
        builders.Dashboard(title)
        .uid(f"sensordrop-{uid}")
        .description(about)
        .tags(["sensordrop"])
        .timezone("utc")
        .time(since, "now")
        .refresh(refresh)
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .editable()
        .variables([*source_variables(), *variables])
        .link(
            builders.DashboardLink("sensordrop")
            .type(dashboard.DashboardLinkType.DASHBOARDS)
            .tags(["sensordrop"])
            .include_vars(True)
            .keep_time(False)
        )
    )
    for words, panels in parts.items():
        made.with_row(builders.Row(words))
        for panel in panels:
            made.with_panel(panel)
    built = made.build()
    for number, panel_or_row in enumerate(built.panels or [], start=1):
        panel_or_row.id_val = number
    return built
