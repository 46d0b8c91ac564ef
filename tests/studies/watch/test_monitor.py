"""What operators see: healthy or not and why, and numbers that a collector reads."""

from __future__ import annotations

import httpx
import pytest

pytest.importorskip("prometheus_client", reason="metrics need the extra [dicom]")
from prometheus_client.parser import text_string_to_metric_families

from ttr.errors import OptionError
from ttr.studies.pacs.work import Outcome
from ttr.studies.watch.monitor import Monitor


def asked(port, path):
    return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False)


def test_it_is_healthy_while_the_model_is_loaded_and_the_last_poll_worked():
    monitor = Monitor()
    with monitor.served("127.0.0.1", 0) as port:
        seen = [asked(port, "/healthz")]
        monitor.polled(True)  # without a model it is not healthy all the same
        seen += [asked(port, "/healthz")]
        for change in (monitor.loaded, lambda: monitor.polled(True), lambda: monitor.polled(False)):
            change()
            seen.append(asked(port, "/healthz"))
        monitor.polled(True)
        seen.append(asked(port, "/healthz"))
    assert [answer.status_code for answer in seen] == [503, 503, 503, 200, 503, 200]
    assert [answer.text.strip() for answer in seen[:5]] == [
        "the model is being loaded",
        "the model is being loaded",
        "there was no poll yet",
        "healthy",
        "the last poll failed; the log says why",
    ]


def test_the_numbers_are_read_by_prometheus():
    monitor = Monitor()
    monitor.loaded()
    monitor.polled(True)
    monitor.waiting(3)
    monitor.finished(Outcome(done=5, stored=36, failed={"1.2": "Muster"}, ours=["1.3"]), 6)
    with monitor.served("127.0.0.1", 0) as port:
        answer = asked(port, "/metrics")
        assert asked(port, "/elsewhere").status_code == 404
        assert asked(port, "/metrics?name=ttr_healthy").status_code == 200
        looked = httpx.head(f"http://127.0.0.1:{port}/healthz", trust_env=False)
        assert (looked.status_code, looked.text) == (200, "")
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert found["ttr_instances_total", "done"] == 4
    assert found["ttr_instances_total", "failed"] == found["ttr_instances_total", "ours"] == 1
    assert (found[("ttr_stored_total",)], found[("ttr_waiting_batches",)]) == (36, 3)
    assert found["ttr_polls_total", "worked"] == found[("ttr_healthy",)] == found[("ttr_model_loaded",)] == 1
    assert found[("ttr_last_poll_timestamp_seconds",)] > 1.7e9
    assert "Muster" not in answer.text


def test_a_port_that_is_taken_is_said():
    with Monitor().served("127.0.0.1", 0) as port:
        second = Monitor().served("127.0.0.1", port)
        with pytest.raises(OptionError, match="cannot listen on"):
            second.__enter__()


def test_nobody_is_asked_what_the_address_is_called(monkeypatch):
    def lookup(*given):
        raise AssertionError("the network")

    monkeypatch.setattr("socket.getfqdn", lookup)
    with Monitor().served("127.0.0.1", 0) as port:
        assert asked(port, "/healthz").status_code == 503
