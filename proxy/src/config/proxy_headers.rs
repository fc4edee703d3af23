//! Where connections begin with a PROXY protocol header, and from whom it is believed.

use std::net::IpAddr;

use clap::ValueEnum;
use ipnet::IpNet;

/// Listeners of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HeaderSite {
    /// `--outbound`: the destination is where the connection wanted to go.
    #[value(alias = "true")]
    Outbound,
    /// `--inbound`.
    #[value(alias = "listen")]
    Inbound,
    /// The listeners of Gateways.
    Gateway,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyHeaders {
    /// A header must come here, and is not looked for elsewhere.
    pub sites: Vec<HeaderSite>,
    /// Who may send one; none for anybody.
    pub from: Vec<IpNet>,
}

impl ProxyHeaders {
    pub fn expected_at(&self, site: HeaderSite) -> bool {
        self.sites.contains(&site)
    }

    pub(crate) fn believes(&self, sender: IpAddr) -> bool {
        let sender = sender.to_canonical();
        self.from.is_empty() || self.from.iter().any(|net| net.contains(&sender))
    }
}

/// A CIDR, or an address that stands for itself.
///
/// # Errors
/// What was expected, for the command line to print.
pub(super) fn net(text: &str) -> Result<IpNet, String> {
    let alone = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>()
        .or_else(|_| alone())
        .map_err(|_| String::from("write an IP address with the length of its prefix, such as 10.0.0.0/8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_not_in_the_list_is_not_believed_and_without_one_everybody_is() {
        let from = |list: &[&str]| {
            let from = list.iter().map(|text| net(text).unwrap()).collect();
            ProxyHeaders { sites: vec![HeaderSite::Gateway], from }
        };
        let believes = |list: &[&str], sender: &str| from(list).believes(sender.parse().unwrap());
        assert!(believes(&[], "192.0.2.1"));
        let list = ["10.0.0.0/8", "2001:db8::7", "192.0.2.9"];
        for (sender, want) in [
            ("10.255.0.1", true),
            ("::ffff:10.255.0.1", true),
            ("192.0.2.9", true),
            ("192.0.2.8", false),
            ("2001:db8::7", true),
            ("2001:db8::8", false),
        ] {
            assert_eq!(believes(&list, sender), want, "{sender}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused_with_an_example() {
        for bad in ["", "10.0.0.0/33", "10.0.0", "localhost"] {
            assert!(net(bad).is_err_and(|why| why.contains("10.0.0.0/8")), "{bad}");
        }
    }
}
