//! An explanation as text.

use std::fmt;

use super::{BackendSaid, Explanation, MatchSaid, PolicySaid};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.request)?;
        self.routing(f)?;
        if !self.policies.is_empty() {
            writeln!(f, "\nPolicies, in the order of their words")?;
        }
        self.policies.iter().try_for_each(|policy| said(f, policy))?;
        self.overridden(f)?;
        if let Some(call) = self.call.as_ref().filter(|call| !call.settings.is_empty()) {
            writeln!(f, "\nCall")?;
            for setting in &call.settings {
                writeln!(f, "  {}: {}, by {}", setting.name, setting.value, setting.from)?;
            }
        }
        if !self.backends.is_empty() {
            writeln!(f, "\nBackends")?;
        }
        self.backends.iter().try_for_each(|one| backend(f, one))?;
        match self.reason {
            Some(reason) => writeln!(f, "\nThe mesh answers {}: {reason}", self.status),
            None => writeln!(f, "\nThe answer is {}, if the backend's is 200", self.status),
        }
    }
}

impl Explanation {
    fn routing(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let routing = &self.routing;
        if let Some(listener) = &routing.listener {
            writeln!(f, "\nListener {listener}")?;
        }
        if let Some(service) = &routing.service {
            writeln!(f, "\nService {service}")?;
        }
        match &routing.chosen {
            Some(chosen) => writeln!(f, "\nRule {chosen}")?,
            None => writeln!(f, "\nNo rule matches")?,
        }
        for rival in &routing.next {
            writeln!(f, "  not {}: {}", rival.said, rival.why)?;
        }
        for rival in &routing.others {
            writeln!(f, "  does not match: {}: {}", rival.said, rival.why)?;
        }
        Ok(())
    }

    fn overridden(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.overridden.is_empty() {
            writeln!(f, "\nWithout effect here")?;
        }
        for one in &self.overridden {
            write!(f, "  {} {} ({}), of {}", one.kind, one.policy, one.source, one.attached.join(", "))?;
            match one.by.is_empty() {
                true => writeln!(f, ": it holds at another proxy")?,
                false => writeln!(f, ": {} is more specific, or older", one.by.join(", "))?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for MatchSaid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(route) = &self.route {
            write!(f, "{route} ")?;
        }
        write!(f, "{}", self.rule)?;
        if let Some(source) = &self.source {
            write!(f, " ({source})")?;
        }
        self.wanted.as_ref().map_or(Ok(()), |wanted| write!(f, ", for {wanted}"))
    }
}

fn said(f: &mut fmt::Formatter<'_>, policy: &PolicySaid) -> fmt::Result {
    let mode = if policy.mode == crate::model::Mode::Shadow { ", in Shadow" } else { "" };
    let whence = match policy.attached.is_empty() {
        true => String::from("named by the route"),
        false => format!("of {}", policy.attached.join(", ")),
    };
    let PolicySaid { phase, kind, policy: name, source, said, .. } = policy;
    writeln!(f, "  {phase:<13}{kind} {name} ({source}), {whence}{mode}")?;
    if said.is_empty() {
        writeln!(f, "               says nothing of this request")?;
    }
    for one in said {
        let reason = one.reason.as_ref().map(|reason| format!(" {reason}")).unwrap_or_default();
        let detail = one.detail.as_ref().map(|detail| format!(" {detail}")).unwrap_or_default();
        writeln!(f, "               {} ({}): {}{reason}{detail}", one.rule, one.source, one.outcome)?;
    }
    Ok(())
}

fn backend(f: &mut fmt::Formatter<'_>, one: &BackendSaid) -> fmt::Result {
    let mark = if one.picked { "->" } else { "  " };
    writeln!(f, "{mark} {}, weight {} ({:.1} %), {}", one.backend, one.weight, one.percent, one.balancing)?;
    for endpoint in &one.endpoints {
        let mark = if one.endpoint.as_ref() == Some(endpoint) { "->" } else { "  " };
        writeln!(f, "   {mark} {endpoint}")?;
    }
    if !one.mirrors.is_empty() {
        writeln!(f, "      copies to {}", one.mirrors.join(", "))?;
    }
    Ok(())
}
