//! The manager of commands as a program. See `alien_core::commands`.

use alien_core::commands::limits::Limits;
use alien_core::commands::server::{Config, serve};
use alien_core::commands::tls::CertificateFiles;
use clap::{Args, Parser, Subcommand};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// A request is a hundred small pieces of memory: libc's allocator takes a tenth of the manager's time for them.
#[cfg(not(feature = "addon"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keeps and delivers commands for daemons.
#[derive(Parser)]
#[command(name = "alien-manager", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run until SIGTERM. Prints {"url"} once it listens; logs to standard error.
    Serve(Serve),
}

#[derive(Args)]
struct Serve {
    /// Folder for database and signing key; made where it is missing
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Address and port; port 0 takes any. Without TLS, on loopback only
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: std::net::SocketAddr,
    /// PEM file with the server's certificate and those that signed it; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// PEM file with the certificate's private key
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Speak plain HTTP on any address: where the network itself keeps everybody else out
    #[arg(long, conflicts_with = "tls_certificate")]
    allow_plain_http: bool,
    /// Seconds for which a manager that still has the folder is waited for
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait_seconds: u32,
    /// File with a token that may do everything
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// Commands that may wait for one daemon
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().pending)]
    most_pending: usize,
    /// Deliveries of one command before it has failed
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().attempts)]
    most_attempts: u32,
    /// Days for which ended commands are kept
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    retention_days: u32,
    /// Connections at once
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().connections)]
    most_connections: usize,
    /// Bytes of one body that does not fit a message
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().body)]
    most_body_bytes: u64,
    /// Bytes of all such bodies
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().storage)]
    most_storage_bytes: u64,
    /// Bytes of the database, beyond which no new commands are taken
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().database)]
    most_database_bytes: u64,
}

/// Tells whoever supervises us that we answer (sd_notify(3)); where nobody asked for that, nothing.
fn tell_ready() {
    let Some(name) = std::env::var("NOTIFY_SOCKET").ok().and_then(|name| name.strip_prefix('@').map(str::to_owned))
    else {
        return;
    };
    let sent = SocketAddr::from_abstract_name(name).and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.send(b"READY=1")
    });
    if let Err(error) = sent {
        tracing::warn!(%error, "nobody could be told that the manager is ready");
    }
}

fn main() -> ExitCode {
    let Command::Serve(given) = Arguments::parse().command;
    // SQLite makes files as everybody may read them.
    alien_core::sys::process::set_umask(0o077);
    tracing_subscriber::fmt().json().with_writer(std::io::stderr).with_target(false).init();
    let tls = given.tls_certificate.zip(given.tls_key).map(|(certificate, key)| CertificateFiles { certificate, key });
    let scheme = if tls.is_some() { "https" } else { "http" };
    let config = Config {
        data: given.data,
        listen: given.listen,
        wait: Duration::from_secs(u64::from(given.wait_seconds)),
        tls,
        plain_http_allowed: given.allow_plain_http,
        admin_token_file: given.admin_token_file,
        limits: Limits {
            pending: given.most_pending,
            attempts: given.most_attempts.max(1),
            retention: Duration::from_secs(u64::from(given.retention_days) * 24 * 3600),
            connections: given.most_connections.max(1),
            body: given.most_body_bytes,
            storage: given.most_storage_bytes,
            database: given.most_database_bytes,
        },
    };
    // Every connection is a file, and the usual soft limit of 1024 is for programs that know no more.
    if let Err(error) = alien_core::sys::process::allow_most_files() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    // One thread answers and one writes: what an answer waits for is the disk.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served = match runtime {
        Ok(runtime) => runtime.block_on(serve(config, |address| {
            println!("{{\"url\":\"{scheme}://{address}\"}}");
            tell_ready();
            // What comes now is waiting, possibly for months, and needs little of what starting took.
            // SAFETY: it may be called at any time.
            unsafe { libmimalloc_sys::mi_collect(true) };
            alien_core::sys::memory::release();
        })),
        Err(error) => Err(error.to_string()),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("alien-manager: {why}");
            ExitCode::FAILURE
        }
    }
}
