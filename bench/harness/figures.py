"""Medians and ratios of what was measured. Ratios are taken round by round, before the median."""

import common


class Figures:
    """Reads {scenario: {"results": {variant: {peer: {figure: [values]}}}}}; what is not there is None."""

    def __init__(self, found):
        self.scenarios = found["scenarios"]

    def rounds(self, scenario, variant, peer, figure):
        results = self.scenarios.get(scenario, {}).get("results", {})
        return results.get(variant, {}).get(peer, {}).get(figure)

    def added(self, scenario, variant, peer, figure):
        """What the peer adds to asking the backend itself."""
        return minus(self.rounds(scenario, variant, peer, figure), self.rounds(scenario, variant, "direct", figure))

    def above(self, scenario, variant, without, peer, figure):
        """What a variant costs above another of the same peer."""
        own = (self.rounds(scenario, name, peer, figure) for name in (variant, without))
        return minus(*own)


def minus(ours, theirs):
    return [a - b for a, b in zip(ours, theirs)] if ours and theirs else None


def ratio(ours, theirs):
    """The median of the ratios of the rounds."""
    if not ours or not theirs:
        return None
    # What adds nothing measurable has no ratio to anything.
    pairs = [a / b for a, b in zip(ours, theirs) if b > 0]
    return common.median(pairs) if pairs else None


def middle(values):
    return common.median(values) if values else None
