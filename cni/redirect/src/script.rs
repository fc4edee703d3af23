//! What is written to `iptables-restore --noflush`. Pure.
//!
//! Naming a chain there empties it, so the rules can be written again at any time; a jump to it would be doubled, so it is
//! written only where there is none. Rules have the form in which `iptables-save` prints them, so that they are known again.

use std::fmt::Write as _;

use ipnet::IpNet;

use crate::{Inbound, Rules};

const OUTPUT: &str = "TIDEGATE_OUTPUT";
const INBOUND: &str = "TIDEGATE_INBOUND";
/// Each of our chains, and the one of the kernel's that leads there.
const CHAINS: [(&str, &str); 2] = [(OUTPUT, "OUTPUT"), (INBOUND, "PREROUTING")];
/// Names are looked up directly, by TCP too.
const DNS: u16 = 53;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// The program that prints what is there.
    pub const fn save(self) -> &'static str {
        match self {
            Self::V4 => "iptables-save",
            Self::V6 => "ip6tables-save",
        }
    }

    /// The program that reads what shall be there.
    pub const fn restore(self) -> &'static str {
        match self {
            Self::V4 => "iptables-restore",
            Self::V6 => "ip6tables-restore",
        }
    }

    const fn loopback(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.0/8",
            Self::V6 => "::1/128",
        }
    }

    const fn has(self, net: &IpNet) -> bool {
        matches!((self, net), (Self::V4, IpNet::V4(_)) | (Self::V6, IpNet::V6(_)))
    }
}

/// What of ours is there already: each chain, and each jump to it, in the order of [`CHAINS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    chains: [bool; 2],
    jumps: [bool; 2],
}

impl Found {
    /// `tables`: as `iptables-save -t nat` prints it.
    pub fn in_tables(tables: &str) -> Self {
        let has = |wanted: &str| tables.lines().any(|line| line.starts_with(wanted));
        let of = |line: fn(&str, &str) -> String| CHAINS.map(|(ours, from)| has(&line(ours, from)));
        Self {
            chains: of(|ours, _| format!(":{ours} ")),
            jumps: of(|ours, from| jump(ours, from).replacen("-I ", "-A ", 1)),
        }
    }
}

/// Before whatever else is there: the first redirection counts.
fn jump(ours: &str, from: &str) -> String {
    format!("-I {from} -p tcp -j {ours}")
}

/// For `iptables-restore --noflush`; without rules, what takes everything back.
pub fn script(rules: Option<&Rules>, family: Family, found: Found) -> String {
    let mut script = String::from("*nat\n");
    let mut line = |text: &str| {
        let _ = writeln!(script, "{text}");
    };
    for (i, (ours, from)) in CHAINS.into_iter().enumerate() {
        let lines = rules.map(|rules| rules.of_chain(ours, family)).unwrap_or_default();
        if lines.is_empty() {
            if found.jumps[i] {
                line(&jump(ours, from).replacen("-I ", "-D ", 1));
            }
            if found.chains[i] {
                line(&format!("-F {ours}\n-X {ours}"));
            }
            continue;
        }
        line(&format!(":{ours} - [0:0]"));
        lines.iter().for_each(|rule| line(&format!("-A {ours} {rule}")));
        if !found.jumps[i] {
            line(&jump(ours, from));
        }
    }
    line("COMMIT");
    script
}

/// What of the rules is not in `tables` as `iptables-save -t nat` prints it, in words; empty where all of it is.
pub fn missing(rules: &Rules, family: Family, tables: &str) -> Vec<String> {
    let found = Found::in_tables(tables);
    let mut missing = Vec::new();
    for (i, (ours, from)) in CHAINS.into_iter().enumerate() {
        let wanted = rules.of_chain(ours, family);
        let begin = format!("-A {ours} ");
        let there: Vec<_> =
            tables.lines().filter_map(|line| line.strip_prefix(&begin)).map(str::trim).collect();
        if there != wanted {
            missing.push(format!("{}: chain {ours} is not as it was set", family.save()));
        }
        if !wanted.is_empty() && !found.jumps[i] {
            missing.push(format!("{}: nothing leads from {from} to {ours}", family.save()));
        }
    }
    missing
}

impl Rules {
    fn of_chain(&self, ours: &str, family: Family) -> Vec<String> {
        if ours == OUTPUT { self.of_output(family) } else { self.of_inbound() }
    }

    fn of_output(&self, family: Family) -> Vec<String> {
        let Some(to) = self.outbound else { return Vec::new() };
        let mut rules = vec![
            format!("-m owner --uid-owner {} -j RETURN", self.uid),
            format!("-d {} -j RETURN", family.loopback()),
        ];
        let ports = self.not_outbound.iter().map(|port| port.get()).chain([DNS]);
        rules.extend(ports.map(|port| format!("-p tcp -m tcp --dport {port} -j RETURN")));
        let nets = self.not_cidrs.iter().filter(|net| family.has(net));
        rules.extend(nets.map(|net| match net.prefix_len() {
            0 => String::from("-j RETURN"),
            _ => format!("-d {} -j RETURN", net.trunc()),
        }));
        rules.push(format!("-p tcp -j REDIRECT --to-ports {to}"));
        rules
    }

    fn of_inbound(&self) -> Vec<String> {
        let Some((to, ports)) = &self.inbound else { return Vec::new() };
        // Whoever connects to the sidecar itself is there already.
        let own = [Some(*to), self.outbound].into_iter().flatten();
        let direct = own.chain(self.not_inbound.iter().copied());
        let mut rules: Vec<_> =
            direct.map(|port| format!("-p tcp -m tcp --dport {port} -j RETURN")).collect();
        match ports {
            Inbound::All => rules.push(format!("-p tcp -j REDIRECT --to-ports {to}")),
            Inbound::Ports(ports) => {
                rules.extend(
                    ports
                        .iter()
                        .map(|port| format!("-p tcp -m tcp --dport {port} -j REDIRECT --to-ports {to}")),
                );
            }
        }
        rules
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;

    fn port(number: u16) -> NonZeroU16 {
        NonZeroU16::new(number).unwrap()
    }

    fn rules() -> Rules {
        Rules {
            uid: 7,
            outbound: Some(port(15001)),
            inbound: Some((port(15006), Inbound::Ports(vec![port(80), port(81)]))),
            not_inbound: vec![port(15020)],
            not_outbound: vec![port(5432)],
            not_cidrs: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
        }
    }

    #[test]
    fn exceptions_come_before_the_redirection() {
        let expected = "*nat\n\
            :TIDEGATE_OUTPUT - [0:0]\n\
            -A TIDEGATE_OUTPUT -m owner --uid-owner 7 -j RETURN\n\
            -A TIDEGATE_OUTPUT -d 127.0.0.0/8 -j RETURN\n\
            -A TIDEGATE_OUTPUT -p tcp -m tcp --dport 5432 -j RETURN\n\
            -A TIDEGATE_OUTPUT -p tcp -m tcp --dport 53 -j RETURN\n\
            -A TIDEGATE_OUTPUT -d 10.0.0.0/8 -j RETURN\n\
            -A TIDEGATE_OUTPUT -p tcp -j REDIRECT --to-ports 15001\n\
            -I OUTPUT -p tcp -j TIDEGATE_OUTPUT\n\
            :TIDEGATE_INBOUND - [0:0]\n\
            -A TIDEGATE_INBOUND -p tcp -m tcp --dport 15006 -j RETURN\n\
            -A TIDEGATE_INBOUND -p tcp -m tcp --dport 15001 -j RETURN\n\
            -A TIDEGATE_INBOUND -p tcp -m tcp --dport 15020 -j RETURN\n\
            -A TIDEGATE_INBOUND -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 15006\n\
            -A TIDEGATE_INBOUND -p tcp -m tcp --dport 81 -j REDIRECT --to-ports 15006\n\
            -I PREROUTING -p tcp -j TIDEGATE_INBOUND\n\
            COMMIT\n";
        assert_eq!(script(Some(&rules()), Family::V4, Found::default()), expected);
        let v6 = script(Some(&rules()), Family::V6, Found::default());
        assert!(
            v6.contains("-d ::1/128") && v6.contains("-d fd00::/8") && !v6.contains("10.0.0.0/8"),
            "{v6}"
        );
    }

    /// As iptables prints what the script above does.
    const SAVED: &str = "*nat\n:OUTPUT ACCEPT [0:0]\n:TIDEGATE_OUTPUT - [0:0]\n:TIDEGATE_INBOUND - [0:0]\n\
        -A PREROUTING -p tcp -j TIDEGATE_INBOUND\n-A OUTPUT -p tcp -j TIDEGATE_OUTPUT\n\
        -A TIDEGATE_OUTPUT -d 127.0.0.0/8 -j RETURN\nCOMMIT\n";

    #[test]
    fn what_is_there_is_not_written_twice() {
        let again = script(Some(&rules()), Family::V4, Found::in_tables(SAVED));
        assert!(!again.contains("-I "), "{again}");
        assert!(again.contains(":TIDEGATE_OUTPUT - [0:0]"), "naming it empties it: {again}");
    }

    #[test]
    fn cleaning_up_takes_back_what_is_there_and_nothing_else() {
        let expected = "*nat\n\
            -D OUTPUT -p tcp -j TIDEGATE_OUTPUT\n-F TIDEGATE_OUTPUT\n-X TIDEGATE_OUTPUT\n\
            -D PREROUTING -p tcp -j TIDEGATE_INBOUND\n-F TIDEGATE_INBOUND\n-X TIDEGATE_INBOUND\n\
            COMMIT\n";
        assert_eq!(script(None, Family::V4, Found::in_tables(SAVED)), expected);
        assert_eq!(script(None, Family::V4, Found::default()), "*nat\nCOMMIT\n");
        let outbound_only = Rules { inbound: None, ..rules() };
        let fewer = script(Some(&outbound_only), Family::V4, Found::in_tables(SAVED));
        assert!(fewer.contains("-X TIDEGATE_INBOUND"), "a side that is no longer asked for goes: {fewer}");
    }

    #[test]
    fn all_ports_may_be_taken_but_the_sidecars_own() {
        let all = Rules { inbound: Some((port(15006), Inbound::All)), ..rules() };
        let script = script(Some(&all), Family::V4, Found::default());
        assert!(
            script.contains("--dport 15006 -j RETURN")
                && script.contains("-A TIDEGATE_INBOUND -p tcp -j REDIRECT")
        );
    }

    /// As a kernel prints what [`script`] has written.
    fn printed(script: &str) -> String {
        script.lines().map(|line| format!("{}\n", line.replacen("-I ", "-A ", 1))).collect()
    }

    #[test]
    fn rules_that_were_set_are_found_and_each_line_that_is_gone_is_missed() {
        let nets = ["10.1.2.3/8", "0.0.0.0/0"].map(|net| net.parse().unwrap());
        let odd = Rules { not_cidrs: nets.into(), ..rules() };
        let written = script(Some(&odd), Family::V4, Found::default());
        let as_printed = "-A TIDEGATE_OUTPUT -d 10.0.0.0/8 -j RETURN\n-A TIDEGATE_OUTPUT -j RETURN\n";
        assert!(written.contains(as_printed), "{written}");
        for (rules, family) in [(rules(), Family::V4), (rules(), Family::V6), (odd, Family::V4)] {
            let tables = printed(&script(Some(&rules), family, Found::default()));
            assert_eq!(missing(&rules, family, &tables), Vec::<String>::new());
            let lines: Vec<_> = tables.lines().collect();
            for (i, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("-A ")) {
                let mut fewer = lines.clone();
                fewer.remove(i);
                assert!(!missing(&rules, family, &fewer.join("\n")).is_empty(), "{line} is not missed");
            }
        }
        let one_side = Rules { inbound: None, ..rules() };
        let more = printed(&script(Some(&rules()), Family::V4, Found::default()));
        assert!(!missing(&one_side, Family::V4, &more).is_empty(), "a side that nobody asked for");
        assert_eq!(missing(&rules(), Family::V4, "").len(), 4);
    }
}
