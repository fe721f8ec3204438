//! Listening, and ending in good order.

use super::blobs::Blobs;
use super::broker::Broker;
use super::http::{Manager, router};
use super::keyring::Tokens;
use super::limits::Limits;
use super::metrics::Metrics;
use super::signing::Signer;
use super::store::{Sqlite, Store};
use super::tls::{self, CertificateFiles};
use axum::Router;
use axum::http::HeaderValue;
use axum::middleware::map_response;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::fs::{self, DirBuilder, File};
use std::future::ready as ready_future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio_io_timeout::TimeoutWriter;
use tokio_rustls::TlsAcceptor;
use tower_http::timeout::RequestBodyTimeoutLayer;

/// A client that takes longer over a request's head has gone, or means ill. An idle connection ends after it as well, and
/// clients are told: one that sends at that very moment would not know whether it was heard.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// The same between two pieces of a body, and of an answer that its client is to take.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// How long requests that are being answered may take when the manager ends.
const GRACE: Duration = Duration::from_secs(10);
/// Between two looks at whether the manager before has ended.
const LOOK: Duration = Duration::from_millis(100);

/// How a manager runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its folder: database, signing key, lock.
    pub data: PathBuf,
    pub listen: SocketAddr,
    /// How long a manager that has the folder may take to end before this one gives up.
    pub wait: Duration,
    /// Without, the manager speaks plain HTTP.
    pub tls: Option<CertificateFiles>,
    /// Plain HTTP on other addresses than loopback: for networks that let nobody in who may not listen.
    pub plain_http_allowed: bool,
    /// A file with a token that may do everything; more can be made with it.
    pub admin_token_file: Option<PathBuf>,
    pub limits: Limits,
}

/// Runs a manager until it is asked to end (SIGTERM, SIGINT). `ready` is told its address once it listens.
///
/// # Errors
/// Why it could not begin, in a sentence.
pub async fn serve(config: Config, ready: impl FnOnce(SocketAddr)) -> Result<(), String> {
    let tls = config.tls.clone().map(tls::acceptor).transpose()?;
    if tls.is_none() && !config.plain_http_allowed && !config.listen.ip().is_loopback() {
        return Err(format!(
            "{} is not on loopback, and tokens would be open to the network: give --tls-certificate and --tls-key",
            config.listen
        ));
    }
    make_private_folder(&config.data).map_err(|error| format!("{}: {error}", config.data.display()))?;
    let _lock = lock(&config.data, config.wait).await?;
    let admin = match &config.admin_token_file {
        None => None,
        Some(file) => {
            let text =
                fs::read_to_string(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
            Some(text.trim().to_owned()).filter(|token| !token.is_empty())
        }
    };
    let metrics = Arc::new(Metrics::default());
    let store = Sqlite::open(&config.data.join("commands.db"), config.limits.database, Arc::clone(&metrics));
    let store: Arc<dyn Store> = Arc::new(store.map_err(|broken| broken.0)?);
    let signer = Signer::open(&config.data.join("signing.key")).map_err(|error| format!("no signing key: {error}"))?;
    let blobs = Blobs::open(config.data.join("blobs"), &config.limits);
    let blobs = blobs.map_err(|error| format!("no folder for bodies: {error}"))?;
    let broker = Broker::open(Arc::clone(&store), Arc::clone(&blobs), config.limits.clone(), Arc::clone(&metrics))
        .await
        .map_err(|broken| broken.0)?;
    let tokens = Tokens::load(store.as_ref(), admin.as_deref()).await.map_err(|broken| broken.0)?;
    let manager = Arc::new(Manager {
        broker: Arc::clone(&broker),
        store: Arc::clone(&store),
        blobs,
        tokens,
        signer,
        metrics,
        scheme: if tls.is_some() { "https" } else { "http" },
    });
    let listener = TcpListener::bind(config.listen).await.map_err(|error| format!("{}: {error}", config.listen))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let clock = tokio::spawn(Arc::clone(&broker).keep_time());
    let idle =
        HeaderValue::try_from(format!("timeout={}", HEAD_TIMEOUT.as_secs())).map_err(|error| error.to_string())?;
    let tell_idle = map_response(move |mut response: Response| {
        response.headers_mut().insert("keep-alive", idle.clone());
        ready_future(response)
    });
    let service = router(manager).layer(tell_idle).layer(RequestBodyTimeoutLayer::new(BODY_TIMEOUT));
    ready(address);
    accept(listener, tls, service, config.limits.connections, &broker).await?;
    let _ = clock.await;
    // Who has which command: receivers go on with their leases before the manager that comes next.
    store.check().await.map_err(|broken| broken.0)
}

/// Answers until the process is asked to end; then lets what is under way come to its end.
async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    service: Router,
    most: usize,
    broker: &Broker,
) -> Result<(), String> {
    let mut terminated = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let (ending, ended) = watch::channel(false);
    let places = Arc::new(Semaphore::new(most));
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place.map_err(|error| error.to_string())?,
            _ = terminated.recv() => break,
            _ = interrupted.recv() => break,
        };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (tls, service, ended) = (tls.clone(), service.clone(), ended.clone());
                    tokio::spawn(async move {
                        greet(stream, tls, service, ended).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // Of file descriptors there may be some again soon.
                    tracing::warn!(%error, "no connection could be taken");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            _ = terminated.recv() => break,
            _ = interrupted.recv() => break,
        }
    }
    drop(listener);
    broker.close();
    ending.send_replace(true);
    let all = places.acquire_many(u32::try_from(most).unwrap_or(u32::MAX));
    let _ = tokio::time::timeout(GRACE, all).await;
    Ok(())
}

/// Takes a new connection, with TLS where that is spoken.
async fn greet(stream: TcpStream, tls: Option<TlsAcceptor>, service: Router, ended: watch::Receiver<bool>) {
    // Answers are small and awaited: none is held back to fill a packet.
    let _ = stream.set_nodelay(true);
    match tls {
        None => answer(stream, service, ended).await,
        // In memory of its own: it is four times as large, and every connection would be as large as the largest.
        Some(tls) => Box::pin(greet_by_tls(stream, tls, service, ended)).await,
    }
}

async fn greet_by_tls(stream: TcpStream, tls: TlsAcceptor, service: Router, ended: watch::Receiver<bool>) {
    match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => answer(Box::new(stream), service, ended).await,
        Ok(Err(error)) => tracing::debug!(%error, "a client could not begin TLS"),
        Err(_) => {}
    }
}

async fn answer<S>(stream: S, service: Router, mut ended: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Who does not take what it asked for is let go.
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(BODY_TIMEOUT));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(32 * 1024)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = ended.wait_for(|ended| *ended) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Keeps a second manager out of a folder until this process ends. One that is just ending is waited for.
async fn lock(data: &Path, wait: Duration) -> Result<File, String> {
    let path = data.join("lock");
    let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
    let begun = Instant::now();
    while file.try_lock().is_err() {
        if begun.elapsed() >= wait {
            return Err(format!("another manager runs on {}", data.display()));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(file)
}

/// Makes a folder that only its owner sees into.
fn make_private_folder(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}
