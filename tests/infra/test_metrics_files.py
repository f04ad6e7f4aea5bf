"""The Grafana dashboard and Prometheus' configuration: well formed, and asking only for what there is."""

import re
from pathlib import Path

import pytest
import yaml
from metric_queries import dashboard, groupings, panels, parsed, queries, selectors

from marco_data.cluster.metrics import COUNTERS, GAUGES
from marco_data.records import DROPPED, FAILED, READ

INFRA = Path(__file__).parents[2] / "infra"
OURS = {f"ray_{name}_total": set(tags) for name, (_, tags) in COUNTERS.items()}
OURS |= {f"ray_{name}": set(tags) for name, (_, tags) in GAUGES.items()}
RAYS = {
    *("ray_node_cpu_count", "ray_node_cpu_utilization", "ray_node_mem_used", "ray_node_mem_total"),
    *("ray_node_disk_utilization_percentage", "ray_node_gpus_utilization", "ray_object_store_used_memory"),
}
"""Ray's own; a slow test finds them on a head, but for the GPUs', of which this one looks into Ray."""
RAYS_LABELS = {"instance", "SessionName"}
VALUES = {"outcome": {READ, DROPPED, FAILED}, "ended": {"done", "failed"}, "direction": {"in", "out"}}


@pytest.mark.parametrize("expr", queries())
def test_a_query_asks_for_metrics_and_labels_that_there_are(expr):
    found = selectors(expr)
    assert found
    for selector in found:
        assert selector.metric in OURS or selector.metric in RAYS
        labels = OURS.get(selector.metric, RAYS_LABELS)
        for label, operator, value in selector.matchers:
            assert label in labels
            assert operator == "=~" or value in VALUES[label]
        assert set(groupings(parsed(expr))) <= labels | RAYS_LABELS


def test_every_metric_of_ours_is_shown():
    assert set(OURS) == {s.metric for expr in queries() for s in selectors(expr)} - RAYS


def test_the_series_of_a_legend_are_those_that_the_query_keeps():
    for panel in panels():
        for target in panel["targets"]:
            kept = set(groupings(parsed(re.sub(r"\$__\w+", "1m", target["expr"]))))
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) == kept


def test_ray_counts_gpus_by_the_name_that_is_asked_for():
    from ray.dashboard.modules.reporter import reporter_agent

    assert "node_gpus_utilization" in reporter_agent.METRICS_GAUGES


def test_the_dashboard_is_one_of_grafana():
    """Structure by hand: Grafana ships no schema that a package has."""
    page = dashboard()
    assert page["uid"] == "marco-data"
    assert page["schemaVersion"] >= 36
    assert [v["name"] for v in page["templating"]["list"]] == ["datasource", "stage"]
    numbers = [panel["id"] for panel in page["panels"]]
    assert len(numbers) == len(set(numbers))
    taken: set[tuple[int, int]] = set()
    for panel in page["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"`{panel['title']}` lies over another panel"
        taken |= cells
    for panel in panels():
        assert panel["type"] == "timeseries"
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert [target["refId"] for target in panel["targets"]] == ["A", "B", "C"][: len(panel["targets"])]


def test_the_page_s_own_choice_of_stages_is_of_a_metric_that_there_is():
    (chosen,) = [v["query"]["query"] for v in dashboard()["templating"]["list"] if v["name"] == "stage"]
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", chosen).groups()
    assert label in OURS[metric]


def test_prometheus_reads_the_file_that_ray_writes():
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    config = yaml.safe_load((INFRA / "metrics" / "prometheus.yaml").read_text("utf-8"))
    (job,) = config["scrape_configs"]
    (files,) = [place["files"] for place in job["file_sd_configs"]]
    assert files == [f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]
    assert set(config) == {"global", "scrape_configs"}
    assert set(job) == {"job_name", "file_sd_configs"}
