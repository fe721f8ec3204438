//! TLS, with certificates that are looked at again at every new connection: whoever renews them only replaces the files.

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DEFAULT_VERSIONS, ServerConfig};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_rustls::TlsAcceptor;

/// Where a server's certificate is.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// PEM: the server's own, then those that signed it.
    pub certificate: PathBuf,
    /// PEM: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// What takes TLS connections with the certificate of these files.
///
/// # Errors
/// Why the files cannot be used, in a sentence.
pub fn acceptor(files: CertificateFiles) -> Result<TlsAcceptor, String> {
    let stamp = files.stamp().map_err(|error| error.to_string())?;
    let key = Arc::new(files.read()?);
    let current = Renewed { files, state: Mutex::new((stamp, key)) };
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(DEFAULT_VERSIONS)
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(current));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What tells that a file is another one than before, or has other contents.
type Stamp = [(u64, u64, i64, i64); 2];

impl CertificateFiles {
    fn stamp(&self) -> io::Result<Stamp> {
        let of = |path: &Path| {
            let its = fs::metadata(path).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
            Ok::<_, io::Error>((its.ino(), its.size(), its.mtime(), its.mtime_nsec()))
        };
        Ok([of(&self.certificate)?, of(&self.key)?])
    }

    fn read(&self) -> Result<CertifiedKey, String> {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| format!("the certificate {certificate} cannot be read: {error}"))?;
        if chain.is_empty() {
            return Err(format!("there is no certificate in {certificate}: it is to be PEM"));
        }
        let private = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| format!("the private key {key} cannot be read: {error}"))?;
        CertifiedKey::from_der(chain, private, &ring::default_provider())
            .map_err(|error| format!("{certificate} and {key} cannot be used together: {error}"))
    }
}

/// A certificate as its files are.
#[derive(Debug)]
struct Renewed {
    files: CertificateFiles,
    state: Mutex<(Stamp, Arc<CertifiedKey>)>,
}

impl Renewed {
    /// The newest that could be read. Files that are replaced one after the other do not fit for a moment: until they do, the
    /// former certificate goes on.
    fn newest(&self) -> Arc<CertifiedKey> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, key) = &mut *state;
        match self.files.stamp() {
            Ok(stamp) if stamp == *known => {}
            Ok(stamp) => {
                *known = stamp;
                match self.files.read() {
                    Ok(read) => {
                        *key = Arc::new(read);
                        tracing::info!("the certificate was read again");
                    }
                    Err(why) => tracing::warn!(why, "the former certificate is used on"),
                }
            }
            Err(error) => tracing::warn!(%error, "the former certificate is used on"),
        }
        Arc::clone(key)
    }
}

impl ResolvesServerCert for Renewed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.newest())
    }
}
