"""The deployment's files: validators read them, and a real Triton runs with their options."""

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate
import numpy as np
import promql_parser
import pytest
import yaml
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from semia import serving
from semia.serving.triton.embedded import locate_embedded_triton
from semia.serving.triton.options import ServerOptions, find_free_ports, flags, server_arguments

DEPLOY = Path(serving.__file__).parent / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = ("cpu", "gpu", "object-storage")


def read(file: str) -> Any:
    return yaml.safe_load((DEPLOY / file).read_text())


def seconds(duration: str) -> int:
    number, unit = int(duration[:-1]), duration[-1]
    return number * {"s": 1, "m": 60}[unit]


@dataclass(frozen=True)
class Deployed:
    """A Triton that start.sh started."""

    ports: list[int]  # gRPC, HTTP, metrics
    secrets: Path
    arguments: list[str]  # as start.sh gave them

    def client(self, *, certificate: bool = True) -> InferenceServerClient:
        own = {"private_key": str(self.secrets / "tls_key"), "certificate_chain": str(self.secrets / "tls_certificate")}
        return InferenceServerClient(
            f"localhost:{self.ports[0]}",
            ssl=True,
            root_certificates=str(self.secrets / "client_ca"),
            **own if certificate else {},
        )

    def get(self, path: str, service: int = 1) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[service]}/{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture(scope="module")
def deployed(embedded_triton: None, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """start.sh as the containers run it, but for the addresses and the backend, with the README's own secrets."""
    folder = tmp_path_factory.mktemp("deployed")
    (script,) = re.findall(r"<!-- tested: secrets -->\n```sh\n(.*?)```", (DEPLOY / "README.md").read_text(), re.DOTALL)
    subprocess.run(["sh", "-euc", script], cwd=folder, check=True, capture_output=True)
    repository = folder / "model_repository"
    serving.publish(tiny_bundle, repository)
    serving.publish(tiny_bundle, repository, name="other")
    runtime = folder / "runtime"
    triton = locate_embedded_triton().assemble(runtime, repository)
    ports = find_free_ports(3)
    ours = [
        argument for argument in triton.arguments if argument.startswith(("--backend-directory", "--backend-config"))
    ]
    for service, port in zip(("grpc", "http", "metrics"), ports, strict=True):
        ours += [f"--{service}-address=127.0.0.1", f"--{service}-port={port}"]
    binaries = folder / "bin"
    binaries.mkdir()
    program = binaries / "tritonserver"
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {folder}/arguments\nexec {triton.program} "$@" {" ".join(ours)}\n'
    )
    program.chmod(0o755)
    environment = triton.environment | {
        "MODEL_REPOSITORY": str(repository),
        "SECRETS": str(folder / "secrets"),
        "MUTUAL_TLS": "true",
        "PATH": f"{binaries}:{triton.environment['PATH']}",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["sh", DEPLOY / "triton" / "start.sh"], env=environment, stdout=log, stderr=log)
    try:
        server = Deployed(ports, folder / "secrets", [])
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            try:
                if server.get("v2/models/tiny/ready")[0] == 200:
                    break
            except OSError:
                time.sleep(0.1)
        yield Deployed(ports, folder / "secrets", (folder / "arguments").read_text().splitlines())
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def tensor() -> InferInput:
    target = InferInput("target_labels", (1, 48, 64), "UINT8")
    target.set_data_from_numpy(np.ones((1, 48, 64), np.uint8))
    return target


def options(arguments: list[str]) -> dict[str, str]:
    return dict(argument.removeprefix("--").partition("=")[::2] for argument in arguments)


def test_callers_with_a_certificate_get_pictures_and_others_get_nothing(deployed: Deployed, tensor: InferInput) -> None:
    with deployed.client() as client:
        picture = client.infer("tiny", [tensor], client_timeout=20).as_numpy("image")
    assert (picture == (0, 255, 0)).all()
    with deployed.client(certificate=False) as stranger, pytest.raises(InferenceServerException):
        stranger.infer("tiny", [tensor], client_timeout=5)
    with InferenceServerClient(f"localhost:{deployed.ports[0]}") as plain, pytest.raises(InferenceServerException):
        plain.infer("tiny", [tensor], client_timeout=5)


def test_only_operators_change_the_server(deployed: Deployed) -> None:
    key = (deployed.secrets / "admin_key").read_text().strip()
    with deployed.client() as client:
        with pytest.raises(InferenceServerException, match="restricted"):
            client.load_model("tiny", client_timeout=20)
        with pytest.raises(InferenceServerException, match="restricted"):
            client.load_model("tiny", headers={"triton-grpc-protocol-semia-admin-key": "guessed"}, client_timeout=20)
        client.load_model("tiny", headers={"triton-grpc-protocol-semia-admin-key": key}, client_timeout=20)


def test_http_tells_health_and_nothing_else(deployed: Deployed) -> None:
    for path in ("v2/models/tiny/ready", "v2/health/live"):
        assert deployed.get(path)[0] == 200
    assert deployed.get("v2/models/nobody/ready")[0] != 200
    for path in ("v2", "v2/models/tiny", "v2/models/tiny/config", "v2/models/stats", "v2/trace/setting", "v2/logging"):
        status, answer = deployed.get(path)
        assert (status, "restricted" in answer) == (403, True), path


def test_its_options_are_those_of_semia_serve(deployed: Deployed) -> None:
    here, there = (
        options(deployed.arguments),
        options(flags(server_arguments(ServerOptions()))),
    )
    # Where they differ, and why: the container's addresses are its own, HTTP answers its probes, its GPU is known, and
    # nobody debugs in it.
    different = {"grpc-address", "allow-http", "metrics-address", "allow-gpu-metrics", "log-verbose"}
    assert {name: here.get(name) for name in there.keys() - different} == {
        name: there[name] for name in there.keys() - different
    }
    assert "disable-auto-complete-config" in here


def expressions() -> dict[str, str]:
    """Every PromQL expression of the alerts, the dashboard and the autoscaler's metric, by where it is from."""
    found = {
        rule["alert"]: rule["expr"] for group in read("prometheus/alerts.yml")["groups"] for rule in group["rules"]
    }
    dashboard = json.loads((DEPLOY / "grafana/dashboards/semia.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            found[f"{panel['title']} {target['refId']}"] = target["expr"].replace("$__rate_interval", "1m")
    (rule,) = read("kubernetes/prometheus-adapter.yaml")["rules"]["custom"]
    found["series"] = rule["seriesQuery"]
    found["autoscaler"] = rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace("<<.LabelMatchers>>", 'pod="a"')
    return found


def metrics_in(node: Any) -> set[str]:
    names = {str(node.name)} if isinstance(node, promql_parser.VectorSelector) else set()
    for part in ("lhs", "rhs", "expr", "args", "vector_selector"):
        below = getattr(node, part, None) or []
        for child in below if isinstance(below, list) else [below]:
            names |= metrics_in(child)
    return names


def test_every_metric_that_is_watched_exists(deployed: Deployed, tensor: InferInput) -> None:
    with deployed.client() as client:
        client.infer("tiny", [tensor], client_timeout=20)
    text = deployed.get("metrics", service=2)[1]
    known = {*re.findall(r"^(\w+)", text, re.MULTILINE), "up"}
    watched = {where: metrics_in(promql_parser.parse(expression)) for where, expression in expressions().items()}
    assert all(watched.values())
    assert {where: names - known for where, names in watched.items() if names - known} == {}
    for label in ('reason="REJECTED"', 'reason="CANCELED"', 'quantile="0.99"', 'quantile="0.5"'):
        assert label in text


def test_models_loaded_are_counted_by_what_goes_with_them(deployed: Deployed) -> None:
    def loaded() -> set[str]:
        return {*re.findall(r'^nv_inference_count{model="(\w+)"', deployed.get("metrics", service=2)[1], re.MULTILINE)}

    assert loaded() == {"tiny", "other"}
    key = {"triton-grpc-protocol-semia-admin-key": (deployed.secrets / "admin_key").read_text().strip()}
    with deployed.client() as client:
        client.unload_model("other", headers=key, client_timeout=20)
    deadline = time.monotonic() + 20
    while loaded() != {"tiny"}:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, a part of Prometheus, is not here")
def test_prometheus_takes_its_files_and_alerts_fire_when_they_should() -> None:
    subprocess.run(["promtool", "check", "config", DEPLOY / "prometheus" / "prometheus.yml"], check=True)
    subprocess.run(["promtool", "test", "rules", Path(__file__).with_name("alerts_test.yml")], check=True)


def test_the_compose_file_keeps_to_the_specification() -> None:
    result = CliRunner().invoke(
        check_jsonschema, ["--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml")]
    )
    assert result.exit_code == 0, result.output


def test_every_service_is_hardened_and_what_it_mounts_is_there() -> None:
    compose = read("compose.yaml")
    variables = (DEPLOY / ".env.example").read_text()
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service["user"].startswith("0"), name
        assert {"mem_limit", "cpus", "pids_limit", "stop_grace_period", "healthcheck"} <= service.keys() | {
            "stop_grace_period",
            *(["healthcheck"] if name == "grafana" else []),
        }, name
        for port in service["ports"]:
            assert port.startswith(("127.0.0.1:", "${SEMIA_ADDRESS:-127.0.0.1}:")), name
        assert {*service.get("secrets", [])} <= compose["secrets"].keys(), name
        for volume in service["volumes"]:
            if isinstance(volume, str):
                assert volume.split(":")[0] in compose["volumes"], name
            elif volume["source"].startswith("./"):
                assert (DEPLOY / volume["source"]).exists(), volume
            if not isinstance(volume, str) and volume["target"] != "/var/tmp/semia-tensorrt":  # noqa: S108
                assert volume["read_only"] is True, volume
    (required,) = {*re.findall(r"\${(\w+):\?", (DEPLOY / "compose.yaml").read_text())}
    assert f"\n{required}=" in variables
    used = {*re.findall(r"\${(\w+):", (DEPLOY / "compose.yaml").read_text())}
    assert {*re.findall(r"^(\w+)=", variables, re.MULTILINE)} <= used


def test_stops_wait_for_triton(deployed: Deployed) -> None:
    exit_timeout = int(options(deployed.arguments)["exit-timeout-secs"])
    for name in ("triton", "triton-gpu"):
        assert seconds(read("compose.yaml")["services"][name]["stop_grace_period"]) >= exit_timeout + 10
    pod = read("kubernetes/base/deployment.yaml")["spec"]["template"]["spec"]
    delay = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= delay + exit_timeout + 10


def build(overlay: str) -> list[dict[str, Any]]:
    """An overlay's manifests, made by a real kustomize."""
    if shutil.which("kustomize"):
        command = ["kustomize", "build"]
    elif shutil.which("kubectl"):
        command = ["kubectl", "kustomize"]
    else:
        pytest.skip("neither kustomize nor kubectl is here")
    built = subprocess.run([*command, KUBERNETES / "overlays" / overlay], capture_output=True, text=True, check=True)
    return [*yaml.safe_load_all(built.stdout)]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_builds_into_what_kubernetes_takes(overlay: str) -> None:
    manifests = build(overlay)
    for manifest in manifests:
        kubernetes_validate.validate(manifest, "1.37", strict=True)
    kinds = {manifest["kind"]: manifest for manifest in manifests}
    pod = kinds["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] == "/v2/models/pagoda/ready"
    start = next(m for m in manifests if m["metadata"]["name"].startswith("semia-triton-start"))
    assert start["data"]["start.sh"] == (DEPLOY / "triton" / "start.sh").read_text()
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["start"]["configMap"]["name"] == start["metadata"]["name"]
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
    ports = {port["name"] for port in container["ports"]}
    allowed = {port["port"] for rule in kinds["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]}
    assert allowed == {"grpc", "metrics"} <= ports
    repository = next(v["value"] for v in container["env"] if v["name"] == "MODEL_REPOSITORY")
    assert ("PersistentVolumeClaim" in kinds, repository.startswith("s3://")) in ((True, False), (False, True))
    assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (overlay == "gpu")


def test_the_base_names_files_that_are_there_and_that_kubernetes_takes() -> None:
    """What can be said without kustomize."""
    for file in sorted(KUBERNETES.rglob("kustomization.yaml")):
        for resource in yaml.safe_load(file.read_text()).get("resources", []):
            assert (file.parent / resource).exists(), resource
    for name in ("namespace", "repository", "disruption", "network", "autoscaler"):
        kubernetes_validate.validate(read(f"kubernetes/base/{name}.yaml"), "1.37", strict=True)
    (metric,) = read("kubernetes/base/autoscaler.yaml")["spec"]["metrics"]
    (rule,) = read("kubernetes/prometheus-adapter.yaml")["rules"]["custom"]
    ports = read("kubernetes/base/deployment.yaml")["spec"]["template"]["spec"]["containers"][0]["ports"]
    (endpoint,) = read("kubernetes/podmonitor.yaml")["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in ports}
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]


def test_kserves_options_are_tritons(embedded_triton: None, tmp_path: Path) -> None:
    triton = locate_embedded_triton().assemble(tmp_path / "runtime", tmp_path)
    # It prints its help on stderr.
    help_text = subprocess.run(
        [triton.program, "--help"], capture_output=True, text=True, check=False, env=triton.environment
    ).stderr
    (container,) = read("kserve/servingruntime.yaml")["spec"]["containers"]
    program, *arguments = container["args"]
    assert program == "tritonserver"
    for name in options(arguments):
        assert f"  --{name}" in help_text, name
    runtime = read("kserve/inferenceservice.yaml")["spec"]["predictor"]["model"]["runtime"]
    assert runtime == read("kserve/servingruntime.yaml")["metadata"]["name"]


def test_one_image_is_named_everywhere() -> None:
    compose = (DEPLOY / "compose.yaml").read_text()
    (tag,) = {*re.findall(r"tritonserver:(\d\d\.\d\d-py3)", compose)}
    (image,) = read("kubernetes/base/kustomization.yaml")["images"]
    assert image["newTag"] == tag
    (container,) = read("kserve/servingruntime.yaml")["spec"]["containers"]
    assert container["image"] == f"nvcr.io/nvidia/tritonserver:{tag}"
    assert tag >= "26.07", "older ones have known vulnerabilities"
