//! Whether the API server is reached through a proxy.

use super::options::Access;
use crate::error::Report;
use http::Uri;
use std::net::IpAddr;

/// `HTTPS_PROXY`, unless `NO_PROXY` excepts the host.
pub fn choose(access: &Access, host: &str) -> Result<Option<Uri>, Report> {
    match access.https_proxy.as_deref().filter(|proxy| !proxy.is_empty()) {
        Some(proxy) if !excepted(access.no_proxy.as_deref().unwrap_or_default(), host) => parse(proxy).map(Some),
        _ => Ok(None),
    }
}

/// A proxy's URL; without a scheme it is an HTTP one, as everywhere.
pub fn parse(proxy: &str) -> Result<Uri, Report> {
    let url = if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") };
    let known = ["http", "https", "socks5"];
    match url.parse::<Uri>() {
        Ok(uri) if uri.scheme_str().is_some_and(|scheme| known.contains(&scheme)) && uri.host().is_some() => Ok(uri),
        // The URL itself may hold a password.
        _ => Err(Report::new("PROXY_INVALID", "the proxy for the API server is no http://, https:// or socks5:// URL")
            .status(400)
            .hint("look at HTTPS_PROXY, or at proxy-url in the kubeconfig")),
    }
}

/// Whether `NO_PROXY` names the host: `*`, a name, a domain with all below it, an address, or a network.
fn excepted(no_proxy: &str, host: &str) -> bool {
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    no_proxy.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        if entry == "*" || entry == host {
            return true;
        }
        if let Some(address) = address {
            return entry.split_once('/').is_some_and(|(network, bits)| within(address, network, bits));
        }
        let domain = entry.trim_start_matches("*.").trim_start_matches('.');
        host == domain || host.ends_with(&format!(".{domain}"))
    })
}

/// Whether an address is in a network (RFC 4632).
fn within(address: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) if bits <= 32 => {
            (a.to_bits() ^ n.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n)) if bits <= 128 => {
            (a.to_bits() ^ n.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_names_hosts_domains_addresses_and_networks() {
        let list = "localhost, .corp.test,example.com,10.0.0.0/8,fd00::/8,192.0.2.7";
        for host in
            ["localhost", "a.corp.test", "example.com", "api.example.com", "10.96.0.1", "[fd00::1]", "192.0.2.7"]
        {
            assert!(excepted(list, host), "{host}");
        }
        for host in ["api.test", "badexample.com", "11.0.0.1", "fe80::1", "192.0.2.8"] {
            assert!(!excepted(list, host), "{host}");
        }
        assert!(excepted("*", "anything") && excepted("0.0.0.0/0", "1.2.3.4") && !excepted("", "x"));
    }

    #[test]
    fn a_proxy_is_chosen_where_it_is_not_excepted_and_never_printed() {
        let access = |https: &str, no: &str| Access {
            https_proxy: Some(https.to_owned()),
            no_proxy: Some(no.to_owned()),
            ..Access::default()
        };
        let chosen = choose(&access("proxy.test:3128", ""), "api.test").ok().flatten();
        assert_eq!(chosen.map(|uri| uri.to_string()).as_deref(), Some("http://proxy.test:3128/"));
        assert!(matches!(choose(&access("http://p:1", "api.test"), "api.test"), Ok(None)));
        let error = choose(&access("ftp://me:hunter2@p", ""), "api.test").expect_err("no such scheme");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
