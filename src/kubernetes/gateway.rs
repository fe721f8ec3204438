//! The way to the manager from outside the cluster: connections to a loopback port are carried through the API server
//! (Kubernetes documentation, "Use Port Forwarding"), so that nobody has to open one.

use super::api::Cluster;
use super::diagnosis;
use super::failure;
use super::labels;
use super::manager::PORT;
use super::snapshot;
use crate::error::Report;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

/// How long a connection waits for a pod that is being replaced.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(250);

/// Both directions of one connection to the manager.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
type Connection = Box<dyn Stream>;

/// A loopback port that leads to the manager, until it is dropped.
pub struct Gateway {
    /// `http://127.0.0.1:PORT`, whatever the manager speaks: what goes over the network is under the API server's TLS.
    pub url: String,
    _tasks: JoinSet<()>,
}

impl Gateway {
    /// Opens it, with the first connection through.
    ///
    /// # Errors
    /// `MANAGER_UNREACHABLE` where no pod of the manager is ready; `CLUSTER_FORBIDDEN`.
    pub async fn open(cluster: &Arc<Cluster>) -> Result<Gateway, Report> {
        let client = cluster.entrance.upgrading().await?;
        let way = Way { cluster: Arc::clone(cluster), client };
        let first = Mutex::new(Some(way.connect().await?));
        let closed = |error: std::io::Error| {
            Report::new("MANAGER_UNREACHABLE", format!("no loopback port can be listened on: {error}"))
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(closed)?;
        let url = format!("http://{}", listener.local_addr().map_err(closed)?);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let way = Arc::new(way);
            // They end with the task that accepts them.
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((socket, _)) = accepted else { continue };
                        let ready = first.lock().unwrap_or_else(PoisonError::into_inner).take();
                        let way = Arc::clone(&way);
                        connections.spawn(async move {
                            let connection = match ready {
                                Some(connection) => Ok(connection),
                                None => way.connect_patiently().await,
                            };
                            // Without one the socket closes, and whoever opened it tells what that means.
                            if let Ok(connection) = connection {
                                carry(socket, connection).await;
                            }
                        });
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Gateway { url, _tasks: tasks })
    }
}

/// Carries bytes both ways until one side has ended.
async fn carry(mut socket: TcpStream, connection: Connection) {
    let _ = socket.set_nodelay(true);
    let (mut from_caller, mut to_caller) = socket.split();
    let (mut from_manager, mut to_manager) = split(connection);
    let there = async {
        let _ = copy(&mut from_caller, &mut to_manager).await;
    };
    let back = async {
        let _ = copy(&mut from_manager, &mut to_caller).await;
        let _ = to_caller.shutdown().await;
    };
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

/// The means to connect to the manager.
struct Way {
    cluster: Arc<Cluster>,
    client: Client,
}

impl Way {
    /// A connection, also where the pod is just being replaced.
    async fn connect_patiently(&self) -> Result<Connection, Report> {
        let begun = Instant::now();
        loop {
            match self.connect().await {
                Err(error) if begun.elapsed() < PATIENCE && error.http_status_code != 403 => {
                    tokio::time::sleep(PAUSE).await;
                }
                other => return other,
            }
        }
    }

    async fn connect(&self) -> Result<Connection, Report> {
        let (pod, tls) = self.pod().await?;
        let doing = format!("forwarding a port of pod {pod:?}");
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.cluster.namespace);
        let forwarded = pods.portforward(&pod, &[PORT]).await;
        let mut forwarded =
            forwarded.map_err(|error| failure::report(&error, &doing, &self.cluster.entrance.server))?;
        let stream = forwarded.take_stream(PORT);
        let stream = stream.ok_or_else(|| unreachable(&self.cluster, "its pod gives no connection"))?;
        if !tls {
            return Ok(Box::new(stream));
        }
        let host = format!("{}.{}.svc", labels::MANAGER_NAME, self.cluster.namespace);
        let name = ServerName::try_from(host).map_err(|error| unreachable(&self.cluster, &error.to_string()))?;
        let stream = connector()?.connect(name, stream).await;
        Ok(Box::new(stream.map_err(|error| unreachable(&self.cluster, &format!("no TLS: {error}")))?))
    }

    /// The pod that answers, and whether it wants TLS.
    async fn pod(&self) -> Result<(String, bool), Report> {
        let pods = snapshot::pods(&self.cluster, labels::MANAGER.deployment).await?;
        let pods: Vec<Pod> = pods.into_values().flatten().collect();
        let staying = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        match staying.clone().find(|pod| diagnosis::is_ready(pod)) {
            Some(pod) => {
                let tls = diagnosis::annotation(pod, labels::TLS_SECRET).is_some();
                Ok((pod.metadata.name.clone().unwrap_or_default(), tls))
            }
            None => Err(unreachable(
                &self.cluster,
                match staying.count() {
                    0 => "it has no pod",
                    _ => "its pod is not ready",
                },
            )),
        }
    }
}

fn unreachable(cluster: &Cluster, why: &str) -> Report {
    let namespace = cluster.namespace.as_str();
    let message = format!("the manager of commands in namespace {namespace:?} cannot be reached: {why}");
    Report::new("MANAGER_UNREACHABLE", message).with("namespace", namespace).retryable().status(503).hint(format!(
        "`kubectl -n {namespace} describe pods -l app.kubernetes.io/component=manager` says why; `alien manager install` \
         installs one"
    ))
}

fn connector() -> Result<TlsConnector, Report> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|why| Report::new("INTERNAL_ERROR", format!("no TLS: {why}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Forwarded(provider)))
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Takes any certificate: the API server, which was authenticated, has led to the pod by name, and its kubelet connects
/// inside the pod. The certificate is for those who come over the network.
#[derive(Debug)]
struct Forwarded(Arc<CryptoProvider>);

impl ServerCertVerifier for Forwarded {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
