"""Wrong values are refused before anything is installed, each with its hint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.helm import Helm

pytestmark = pytest.mark.real("helm")

VALUES = Path(__file__).parent / "values"
LEAST = VALUES / "default-identity.yaml"
SECRET = "s3cr3t~value"
RETIRED_IMAGE = (
    "mcr.microsoft.com/azuremonitor/auth-proxy/prod/aad-auth-proxy/images/aad-auth-proxy"
)


def sets(*assignments: str) -> list[str]:
    return [part for one in assignments for part in ("--set-json", one)]


#: Values that are set besides the least, and what helm has to say of them.
TABLE = {
    "no image": (["image.repository=''"], "image.repository: it is required", "Build docker/"),
    "no image, in a registry of Azure's": (
        ["image.repository=''"],
        "docs/container.md",
        "`az acr run --registry NAME --file docker/acr-task.yaml .`",
    ),
    "the retired proxy's image": (
        [f"image.repository='{RETIRED_IMAGE}'"],
        f"image.repository='{RETIRED_IMAGE}': it is the image of a retired proxy",
        "as --reuse-values carries it over. Build docker/Dockerfile",
    ),
    "no target": (["targetHost=''"], "targetHost: it is required", "or ingestionUrl to"),
    "two targets": (
        ["ingestionUrl='https://x.example.com/api/v1/write'"],
        "ingestionUrl='https://x.example.com/api/v1/write': it is set besides targetHost",
        "Keep ingestionUrl for remote write alone",
    ),
    "an unknown value": (["wxyz='x'"], "wxyz: there is no such value", "Remove it"),
    "letters in another order": (
        ["tragetHost='x'"],
        "tragetHost: there is no such value",
        "Did you mean targetHost?",
    ),
    "a letter too few": (["autoscalng.enabled=true"], "autoscalng:", "Did you mean autoscaling?"),
    "a word too few": (["maxBodyBytes=1"], "maxBodyBytes:", "Did you mean maxRequestBodyBytes?"),
    "a plural": (["targetHosts='x'"], "targetHosts: there is no", "Did you mean targetHost?"),
    "a variable": (["LOG_LEVEL='debug'"], "LOG_LEVEL: there is no", "Did you mean logLevel?"),
    "a secret as a value": (
        [f"aadClientSecret='{SECRET}'"],
        "aadClientSecret: there is no such value",
        "name that in clientSecret.existingSecret",
    ),
    "a password as a value": (
        [f"aadClientCertificatePassword='{SECRET}'"],
        "aadClientCertificatePassword: there is no such value",
        "clientCertificate.passwordKey",
    ),
    "an unknown value within another": (["service.prot=80"], "service", "prot is not allowed"),
    "a list for a text": (["targetHost=['x']"], "targetHost: Invalid type", "string"),
    "a text for a map": (["resources='much'"], "resources: Invalid type", "object"),
    "a tag that YAML takes for a number": (["image.tag=1.10"], "image.tag: Invalid type", "string"),
    "a port out of range": (["listeningPort=65536"], "listeningPort: Must be less", "65535"),
    "a port out of range, as a text": (
        ["listeningPort='65536'"],
        "listeningPort='65536': it is out of range",
        "Give a whole number from 1 to 65535",
    ),
    "words for a number": (
        ["threads='many'"],
        "threads='many': it is not a whole number",
        "Give a whole number from 1 to 1024",
    ),
    "a fraction for a whole number": (["workers=1.5"], "workers: Invalid type", "integer"),
    "a fraction as a text": (["workers='1.5'"], "workers='1.5': it is not a whole number", "256"),
    "a negative time": (
        ["shutdownGraceSeconds='-1'"],
        "shutdownGraceSeconds='-1': it is not a number",
        "from 0 to 3600",
    ),
    "no time at all": (
        ["targetReadTimeoutSeconds='0'"],
        "targetReadTimeoutSeconds='0': it is out of range",
        "above 0, up to 3600",
    ),
    "a word that is no truth value": (
        ["logQuery='perhaps'"],
        "logQuery='perhaps': it is neither true nor false",
        "Give true or false",
    ),
    "an unknown identity": (
        ["identityType='managed'"],
        "identityType='managed': it is none of the known values",
        "Give one of: default, systemassigned, userassigned",
    ),
    "an unknown level": (["logLevel='loud'"], "logLevel='loud': it is none", "debug, info"),
    "no client id": (
        ["identityType='userAssigned'"],
        "aadClientId: it is required with identityType=userassigned",
        "Set it to the client id",
    ),
    "a client id besides another id": (
        ["identityType='userAssigned'", "aadClientId='a'", "aadObjectId='b'"],
        "aadClientId='a': it is set besides aadResourceId or aadObjectId",
        "Keep one of them",
    ),
    "two other ids": (
        ["identityType='userAssigned'", "aadResourceId='/a'", "aadObjectId='b'"],
        "aadObjectId='b': it is set besides aadResourceId",
        "Keep one of them",
    ),
    "a federated identity besides a secret": (
        [
            "identityType='aadApplication'",
            "aadClientId='a'",
            "aadTenantId='b'",
            "aadFederatedIdentity='systemAssigned'",
            "clientSecret.existingSecret='x'",
        ],
        "aadFederatedIdentity='systemAssigned': it is set besides a certificate or a secret",
        "Keep one of them",
    ),
    "an application without ids": (
        ["identityType='aadApplication'", "clientSecret.existingSecret='x'"],
        "aadTenantId: it is required with identityType=aadapplication",
        "Set it to the tenant id",
    ),
    "an application without anything to show": (
        ["identityType='aadApplication'", "aadClientId='a'", "aadTenantId='b'"],
        "clientCertificate.existingSecret: identityType=aadapplication needs",
        "Name a Secret",
    ),
    "an application with two things to show": (
        [
            "identityType='aadApplication'",
            "aadClientId='a'",
            "aadTenantId='b'",
            "aadClientCertificatePath='/x.pem'",
            "clientSecret.existingSecret='x'",
        ],
        "clientSecret.existingSecret='x': there is a client secret besides a certificate",
        "Keep one of them",
    ),
    "a workload identity without client id": (
        ["identityType='workloadIdentity'"],
        "aadClientId: it is required with identityType=workloadidentity",
        "serviceAccount.create=false",
    ),
    "a path besides a mounted Secret": (
        ["inboundTokenFile='/x'", "inboundTokens.existingSecret='x'"],
        "inboundTokenFile='/x': it is set besides what is mounted at /etc/authproxy/inbound-tokens",
        "Keep one of them",
    ),
    "a vault besides a Secret": (
        [
            "clientCertificate.existingSecret='x'",
            "keyVault={'enabled': true, 'secretProviderClass': 'x', 'certificate': 'y'}",
        ],
        "keyVault.certificate='y': it is set besides clientCertificate.existingSecret",
        "Keep one of them",
    ),
    "a vault without a name": (
        ["keyVault={'enabled': true, 'certificate': 'y', 'tenantId': 'z'}"],
        "keyVault.vaultName: it is required",
        "or name a class",
    ),
    "an unknown format": (["keyVault.format='der'"], "keyVault.format", '"pem", "pfx"'),
    "a socket besides a port": (
        ["listeningSocket='/run/x'", "listeningPort=8082"],
        "listeningSocket='/run/x': it is set besides listeningPort",
        "Keep one of them",
    ),
    "no port": (["listeningPort=null"], "listeningPort: it is required", "such as 8081"),
    "loopback": (
        ["listeningHost='127.0.0.1'"],
        "listeningHost='127.0.0.1': neither the service nor the kubelet's probes",
        "Leave it empty",
    ),
    "headers twice": (
        [
            f"overrideRequestHeaders={{'X-Key': '{SECRET}'}}",
            "overrideRequestHeadersSecret.name='x'",
        ],
        "overrideRequestHeaders='***': it is set besides overrideRequestHeadersSecret.name",
        "Keep one of them",
    ),
    "headers that are no JSON": (
        [f"overrideRequestHeaders='X-Key: {SECRET}'"],
        "overrideRequestHeaders='***': it is no JSON object",
        "or a mapping",
    ),
    "a broken object of headers": (
        [f"overrideRequestHeaders='{{{SECRET}'"],
        "overrideRequestHeaders='***': it is no JSON object",
        "Give one of strings",
    ),
    "metrics on the proxied port": (
        ["metricsPort='8081'"],
        "metricsPort='8081': it is listeningPort",
        "Choose another port",
    ),
    "a monitor without metrics": (
        ["podMonitor.enabled=true"],
        "metricsPort: it is required with podMonitor.enabled=true",
        "such as 9090",
    ),
    "two monitors": (
        ["podMonitor.enabled=true", "serviceMonitor.enabled=true", "metricsPort=9090"],
        "serviceMonitor.enabled=true: podMonitor.enabled is true as well",
        "Keep one of them",
    ),
    "a range upside down": (
        ["autoscaling={'enabled': true, 'minReplicas': 7}"],
        "autoscaling.minReplicas=7: it is above autoscaling.maxReplicas (6)",
        "Raise that, or lower this",
    ),
    "nothing to scale by": (
        ["autoscaling={'enabled': true, 'targetCPUUtilizationPercentage': null}"],
        "autoscaling.targetCPUUtilizationPercentage: nothing says",
        "targetMemoryUtilizationPercentage",
    ),
    "a share of nothing": (
        ["autoscaling.enabled=true", "resources.requests=null"],
        "resources.requests.cpu: it is required",
        "do not scale by cpu",
    ),
    "a budget that lets nobody go": (
        ["podDisruptionBudget.minAvailable=2"],
        "podDisruptionBudget.minAvailable='2': no pod could be evicted",
        "below the number of pods (2)",
    ),
    "a budget of nothing": (
        ["podDisruptionBudget.maxUnavailable='0%'"],
        "podDisruptionBudget.maxUnavailable='0%': no pod could be evicted",
        "Set it to 1 or more",
    ),
    "too little time to end": (
        ["terminationGracePeriodSeconds=30", "shutdownDelaySeconds=5"],
        "terminationGracePeriodSeconds=30: the pod would be killed while it drains",
        "Set it to 40",
    ),
    "less storage than may be buffered": (
        ["tmp.sizeLimit='255Mi'"],
        "tmp.sizeLimit='255Mi': the pod would be evicted",
        "Set it to 256Mi or more, or lower maxBufferedBytes or workers",
    ),
    "less storage than several workers may buffer": (
        ["tmp.sizeLimit='1Gi'", "workers=5", "resources.limits.memory='1Gi'"],
        "bodies and responses that 5 workers may buffer (maxBufferedBytes for each) take",
        "Set it to 1280Mi or more",
    ),
    "a budget that is larger than the storage": (
        [
            "tmp.sizeLimit='1e9'",
            "extraEnv=[{'name': 'MAX_BUFFERED_BYTES', 'value': '1073741824'}]",
        ],
        "tmp.sizeLimit='1e9': the pod would be evicted",
        "Set it to 1024Mi or more",
    ),
    "a limit on storage that is less": (
        ["resources.limits.ephemeral-storage='0.1Gi'"],
        "resources.limits.ephemeral-storage='0.1Gi': the pod would be evicted",
        "Set it to 256Mi or more",
    ),
    "no quantity": (["tmp.sizeLimit='much'"], "tmp.sizeLimit='much': it is no quantity", "512Mi"),
    "a unit that there is not": (
        ["resources.limits.memory='256mb'"],
        "resources.limits.memory='256mb': it is no quantity",
        "Give one such as 512Mi",
    ),
    "less memory than the workers need": (
        ["workers=8"],
        "resources.limits.memory='256Mi': 8 workers would be killed for want of memory",
        "Set it to 410Mi or more, or lower workers",
    ),
    "a setting twice": (
        ["extraEnv=[{'name': 'TARGET_HOST', 'value': 'x'}]"],
        "extraEnv.TARGET_HOST: the chart sets it already",
        "Remove it here, or there",
    ),
    "a secret in clear": (
        [f"extraEnv=[{{'name': 'AAD_CLIENT_SECRET', 'value': '{SECRET}'}}]"],
        "extraEnv.AAD_CLIENT_SECRET='***': it is a secret",
        "valueFrom.secretKeyRef",
    ),
    "the SDK's secret in clear": (
        [f"extraEnv=[{{'name': 'AZURE_CLIENT_SECRET', 'value': '{SECRET}'}}]"],
        "extraEnv.AZURE_CLIENT_SECRET='***': it is a secret",
        "valueFrom.secretKeyRef",
    ),
    "headers in clear": (
        [f"extraEnv=[{{'name': 'OVERRIDE_REQUEST_HEADERS', 'value': '{SECRET}'}}]"],
        "extraEnv.OVERRIDE_REQUEST_HEADERS='***': it is a secret",
        "valueFrom.secretKeyRef",
    ),
    "the label neither here nor there": (
        ["addWorkloadIdentityLabel='perhaps'"],
        "addWorkloadIdentityLabel",
        "must be one of the following",
    ),
}


@pytest.mark.parametrize("row", TABLE)
def test_a_wrong_value_is_refused_with_its_name_and_its_hint(helm: Helm, row: str) -> None:
    assignments, named, hint = TABLE[row]
    arguments = sets(*(one.replace("'", '"') for one in assignments))
    said = " ".join(helm.faults("--values", str(LEAST), *arguments).replace('"', "'").split())
    assert named in said
    assert hint.replace('"', "'") in said
    assert SECRET not in said
    assert "nil pointer" not in said


def test_all_faults_are_told_at_once(helm: Helm) -> None:
    said = helm.faults("--set-json", 'logLevel="loud"', "--set-json", "podMonitor.enabled=true")
    assert "4 faults in the values of the chart:" in said
    for name in ("image.repository", "targetHost", "logLevel", "metricsPort"):
        assert f"\n  {name}" in said


@pytest.mark.parametrize(
    "assignments",
    [
        ["targetHost=''", "extraEnvFrom=[{'configMapRef': {'name': 'settings'}}]"],
        ["targetHost=''", "extraEnv=[{'name': 'TARGET_HOST', 'valueFrom': {}}]"],
        [
            "identityType='userAssigned'",
            "extraEnv=[{'name': 'AZURE_CLIENT_ID', 'value': 'x'}]",
        ],
        [
            "identityType='aadApplication'",
            "aadClientId='x'",
            "aadTenantId='y'",
            "extraEnv=[{'name': 'AAD_CLIENT_SECRET', 'valueFrom': {'secretKeyRef': {}}}]",
        ],
        ["keyVault={'enabled': true, 'secretProviderClass': 'x'}"],
        ["targetHost=null", "ingestionUrl='https://x.example.com/api/v1/write'"],
        ["podDisruptionBudget.minAvailable=1"],
        ["podDisruptionBudget.minAvailable=0"],
        ["podDisruptionBudget={'enabled': false, 'minAvailable': 5}"],
        ["autoscaling={'enabled': false, 'minReplicas': 9}"],
        ["logLevel='DEBUG'", "identityType='SystemAssigned'", "logQuery='False'"],
        ["listeningHost='::'"],
        ["workers=4"],
        ["workers=4", "tmp.sizeLimit='1Gi'"],
        ["tmp.sizeLimit=268435456"],
        ["tmp.sizeLimit='1.5G'"],
        ["workers=256", "resources.limits.memory=null"],
    ],
    ids=str,
)
def test_what_only_looks_wrong_is_taken(helm: Helm, assignments: list[str]) -> None:
    arguments = sets(*(one.replace("'", '"') for one in assignments))
    assert helm.render_file(LEAST, *arguments)


def test_editors_see_the_schema(helm: Helm) -> None:
    from tests.support.helm import CHART

    schema = json.loads((CHART / "values.schema.json").read_text())
    described = {name for name, one in schema["properties"].items() if "description" in one}
    assert {"targetHost", "replicaCount", "resources"} <= described
