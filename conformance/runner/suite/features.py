"""Features that are not claimed, each with its reason. Everything else of the suite is run."""

UNSUPPORTED: dict[str, str] = {
    "GatewayInfrastructurePropagation": "needs a cluster: labels on the cloud resources of a Gateway",
    "UDPRoute": "no UDP data plane",
}
