//! A program run in a daemon's container.

use super::api::Cluster;
use super::diagnosis;
use super::failure;
use super::manifest::CONTAINER;
use super::snapshot;
use crate::engine::exec::{Options, PIECES, Session, Size, Stream, copy, feed};
use crate::engine::status::ExitStatus;
use crate::error::Report;
use crate::sys::process::Exit;
use crate::sys::time;
use futures_util::SinkExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess, TerminalSize};
use tokio::sync::{mpsc, oneshot};

/// Runs a program in the daemon's running container.
///
/// # Errors
/// `DAEMON_NOT_RUNNING` where there is none.
pub async fn exec(cluster: &Cluster, deployment: &str, id: &str, options: Options) -> Result<Session, Report> {
    let pod = running(cluster, deployment, id).await?;
    let params = AttachParams::default()
        .container(CONTAINER)
        .stdin(options.stdin)
        .stdout(true)
        .stderr(!options.tty)
        .tty(options.tty);
    let pods: Api<Pod> = Api::namespaced(cluster.entrance.upgrading().await?, &cluster.namespace);
    let doing = format!("running {:?} in pod {pod:?}", options.command.first().map_or("", String::as_str));
    let process = pods.exec(&pod, &options.command, &params).await;
    let process = process.map_err(|error| failure::report(&error, &doing, &cluster.entrance.server))?;
    Ok(session(process, doing))
}

/// The pod whose container runs.
async fn running(cluster: &Cluster, deployment: &str, id: &str) -> Result<String, Report> {
    let pods = snapshot::pods(cluster, deployment).await?.remove(id).unwrap_or_default();
    let runs = |pod: &&Pod| {
        pod.metadata.deletion_timestamp.is_none()
            && diagnosis::container(pod)
                .is_some_and(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()))
    };
    let newest = pods.iter().filter(runs).max_by_key(|pod| pod.metadata.creation_timestamp.clone());
    newest.and_then(|pod| pod.metadata.name.clone()).ok_or_else(|| {
        let message =
            format!("daemon {id:?} of deployment {deployment:?} has no running container to run a program in");
        Report::new("DAEMON_NOT_RUNNING", message).status(409).hint("`alien status` says how it is")
    })
}

fn session(mut process: AttachedProcess, doing: String) -> Session {
    let (output, received) = mpsc::channel(PIECES);
    let stdin = process.stdin().map(feed);
    let size = process.terminal_size().map(|mut sizes| {
        let (give, mut take) = mpsc::channel::<Size>(PIECES);
        tokio::spawn(async move {
            while let Some(Size { columns, rows }) = take.recv().await {
                if sizes.send(TerminalSize { width: columns, height: rows }).await.is_err() {
                    return;
                }
            }
        });
        give
    });
    let (tell_exit, exit) = oneshot::channel();
    let (stdout, stderr) = (process.stdout(), process.stderr());
    tokio::spawn(async move {
        let status = process.take_status();
        let streams = async {
            tokio::join!(copy(stdout, Stream::Stdout, &output), copy(stderr, Stream::Stderr, &output));
        };
        tokio::select! {
            () = streams => {}
            // Nobody listens: the connection is ended, and with it the copying.
            () = output.closed() => return process.abort(),
        }
        drop(output);
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        let _ = tell_exit.send(ended(status, &doing));
    });
    Session { stdin, output: received, size, exit }
}

/// How the program ended (`v4.channel.k8s.io`: a Status on the error channel).
fn ended(status: Option<Status>, doing: &str) -> Result<ExitStatus, Report> {
    let exit = |code| ExitStatus::new(Exit::from_shell_code(code), false, time::rfc3339(time::wall()));
    let Some(status) = status else {
        let message = format!("{doing}: the connection was cut before the program ended");
        return Err(Report::new("EXEC_CUT", message).retryable().status(502));
    };
    if status.status.as_deref() == Some("Success") {
        return Ok(exit(0));
    }
    let causes = status.details.as_ref().and_then(|details| details.causes.as_deref()).unwrap_or_default();
    let code = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    let code = code.and_then(|cause| cause.message.as_deref()?.parse().ok());
    match code {
        Some(code) if status.reason.as_deref() == Some("NonZeroExitCode") => Ok(exit(code)),
        _ => {
            let why = diagnosis::in_short(&status.message.unwrap_or_default());
            Err(Report::new("EXEC_FAILED", format!("{doing}: {why}")).hint("is the program in the image?"))
        }
    }
}
