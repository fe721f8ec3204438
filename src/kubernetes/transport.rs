//! How requests travel: all of them over one HTTP/2 connection, as kubectl's do. kube's own client opens a connection,
//! with a TLS handshake, for every request that is under way at once.

use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy::Builder;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::{Client, Config, Error};
use std::time::Duration;
use tower::{BoxError, ServiceBuilder};

/// How often a connection over which something is awaited is asked whether it is still there, and for how long: as
/// client-go does it. Without, a watch over a connection that died in silence would wait for ever.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(15);

/// A client for everything but what upgrades its connection (exec), which HTTP/2 cannot.
///
/// A server, or what stands before it, that speaks only HTTP/1.1 is spoken to in that. So is one behind a proxy: kube's
/// own client knows them all.
pub fn client(config: Config) -> Result<Client, Error> {
    if config.proxy_url.is_some() {
        return Client::try_from(config);
    }
    // First, for it says what is wrong with a credential plugin: for a certificate it is asked once more, in silence.
    let auth = config.auth_layer()?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    let tls = HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_or_http();
    let tls = match &config.tls_server_name {
        None => tls,
        Some(name) => {
            let name = name.clone().try_into().map_err(|error| Error::Service(Box::new(error)))?;
            tls.with_server_name_resolver(FixedServerNameResolver::new(name))
        }
    };
    let connector = tls.enable_all_versions().wrap_connector(tcp);
    let client = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PONG)
        .build::<_, Body>(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(auth)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}
