"""What came out, for people and as a ConformanceReport."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import yaml

from .suite.features import UNSUPPORTED
from .suite.runner import Result, Suite

PROFILES = ("GatewayHTTP", "GatewayGRPC", "GatewayTLS", "GatewayTCP", "MeshHTTP", "MeshGRPC")


@dataclass
class Level:
    passed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def add(self, result: Result) -> None:
        getattr(self, result.outcome).append(result.name)

    def report(self) -> dict[str, Any]:
        outcome = "failure" if self.failed else "partial" if self.skipped else "success"
        counts = {"Passed": len(self.passed), "Failed": len(self.failed), "Skipped": len(self.skipped)}
        found: dict[str, Any] = {"result": outcome, "statistics": counts}
        if self.failed:
            found["failedTests"] = sorted(self.failed)
        if self.skipped:
            found["skippedTests"] = sorted(self.skipped)
        return found


@dataclass
class Profile:
    name: str
    core_features: set[str]
    extended_features: set[str]
    core: Level = field(default_factory=Level)
    extended: Level = field(default_factory=Level)

    def add(self, result: Result) -> None:
        features = set(result.features)
        if features <= self.core_features:
            self.core.add(result)
        elif features <= self.core_features | self.extended_features:
            self.extended.add(result)

    def report(self) -> dict[str, Any]:
        unsupported = sorted(self.extended_features & UNSUPPORTED.keys())
        extended = self.extended.report()
        extended["supportedFeatures"] = sorted(self.extended_features - UNSUPPORTED.keys())
        if unsupported:
            extended["unsupportedFeatures"] = unsupported
        return {"name": self.name, "core": self.core.report(), "extended": extended}


def profiles(suite: Suite, results: list[Result]) -> list[Profile]:
    package = suite.program.load("sigs.k8s.io/gateway-api/conformance/utils/suite")
    found = []
    for name in PROFILES:
        fields = package.member(f"{name}ConformanceProfile").fields
        profile = Profile(fields["Name"], set(fields["CoreFeatures"]), set(fields["ExtendedFeatures"]))
        for result in results:
            profile.add(result)
        found.append(profile)
    return found


def document(found: list[Profile], version: str) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "ConformanceReport",
            "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "gatewayAPIVersion": version,
            "gatewayAPIChannel": "experimental",
            "implementation": {"project": "tidegate", "organization": "tidegate"},
            "mode": "files",
            "profiles": [profile.report() for profile in found],
        },
        sort_keys=False,
    )


def table(found: list[Profile], results: list[Result]) -> str:
    lines = []
    for result in sorted(results, key=lambda each: (each.outcome, each.name)):
        if result.outcome != "passed":
            lines.append(f"{result.outcome.upper():8} {result.name}  {result.reason}".rstrip())
            lines += [f"         {fault}"[:240] for fault in result.faults[:6]]
    lines.append("")
    lines.append(f"{'profile':14} {'core':>22} {'extended':>26}    (passed / failed / skipped)")
    for profile in found:
        core, extended = (
            f"{len(level.passed)} / {len(level.failed)} / {len(level.skipped)}" for level in (profile.core, profile.extended)
        )
        lines.append(f"{profile.name:14} {core:>22} {extended:>26}")
    counts = Counter(result.outcome for result in results)
    lines.append(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return "\n".join(lines)
