//! Unix sockets: addressed through a folder's descriptor, and message pairs that carry their sender's pid.

use super::{c_path, check};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A path to `name` in `dir` that fits a socket address (108 bytes) however long the folder's own path is.
///
/// The descriptor must stay open while the path is used.
fn short_path(dir: &Path, name: &str) -> io::Result<(OwnedFd, PathBuf)> {
    let path = c_path(dir)?;
    let fd = check(unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let short = PathBuf::from(format!("/proc/self/fd/{}/{name}", fd.as_raw_fd()));
    Ok((fd, short))
}

/// Listens on the socket `name` in `dir`, in place of any earlier one. Only its owner may connect.
///
/// The socket gets its name once it listens, so that who sees it can connect.
pub fn listen(dir: &Path, name: &str) -> io::Result<UnixListener> {
    let staged = format!("{name}.{}", std::process::id());
    let (_dir, path) = short_path(dir, &staged)?;
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    std::fs::rename(dir.join(&staged), dir.join(name))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Takes the next who has connected; nothing on the stream waits.
pub fn accept(listener: &UnixListener) -> io::Result<UnixStream> {
    let (nobody, flags) = (std::ptr::null_mut(), libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
    let fd = check(unsafe { libc::accept4(listener.as_raw_fd(), nobody, nobody.cast(), flags) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { UnixStream::from_raw_fd(fd) })
}

/// Connects to the socket `name` in `dir`. Neither this nor the stream waits for anybody: `WouldBlock` says that too many
/// others wait to be accepted, as they do where the listener is stopped.
pub fn connect(dir: &Path, name: &str) -> io::Result<UnixStream> {
    let (_dir, path) = short_path(dir, name)?;
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let fd = check(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    let stream = unsafe { UnixStream::from_raw_fd(fd) };
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= address.sun_path.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket's name is too long"));
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    let size = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    check(unsafe { libc::connect(stream.as_raw_fd(), (&raw const address).cast(), size) })?;
    Ok(stream)
}

/// The process that listens on the other side: the one that made it do so, whoever has it now.
pub fn listener_of(stream: &impl AsRawFd) -> Option<i32> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    let (fd, value) = (stream.as_raw_fd(), (&raw mut credentials).cast());
    check(unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, value, &raw mut size) }).ok()?;
    (credentials.pid > 0).then_some(credentials.pid)
}

/// A connected pair of sockets that keep message borders.
pub fn message_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })?;
    // SAFETY: the kernel has just made both.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// A pipe: (read end, write end), both closed on exec.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: the kernel has just made both.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// Lets the kernel say, with each message received on `socket`, which process sent it.
pub fn ask_for_sender(socket: &impl AsRawFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    let (fd, value) = (socket.as_raw_fd(), (&raw const on).cast());
    check(unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_PASSCRED, value, size) }).map(drop)
}

/// Sends one message.
pub fn send(socket: &impl AsRawFd, message: &[u8]) -> io::Result<()> {
    let sent = unsafe { libc::send(socket.as_raw_fd(), message.as_ptr().cast(), message.len(), libc::MSG_NOSIGNAL) };
    super::check_long(sent as libc::c_long).map(drop)
}

/// What [`receive`] found.
pub enum Received {
    /// A message of this many bytes, and its sender's pid where it was asked for.
    Message(usize, Option<i32>),
    /// Nothing yet.
    Empty,
    /// The other side has gone.
    Closed,
}

/// Takes the next message, without waiting.
pub fn receive(socket: &impl AsRawFd, buffer: &mut [u8]) -> Received {
    receive_with(socket, buffer, libc::MSG_DONTWAIT)
}

/// Waits for the next message.
pub fn receive_wait(socket: &impl AsRawFd, buffer: &mut [u8]) -> Received {
    receive_with(socket, buffer, 0)
}

fn receive_with(socket: &impl AsRawFd, buffer: &mut [u8], flags: libc::c_int) -> Received {
    #[repr(align(8))]
    struct Control([u8; 64]);
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len();
    loop {
        let size = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
        return match size {
            0 => Received::Closed,
            size if size > 0 => Received::Message(size as usize, sender(&header)),
            _ => match io::Error::last_os_error().kind() {
                io::ErrorKind::Interrupted => continue,
                io::ErrorKind::WouldBlock => Received::Empty,
                _ => Received::Closed,
            },
        };
    }
}

fn sender(header: &libc::msghdr) -> Option<i32> {
    // SAFETY: the kernel has filled the header's control buffer, which lives in our caller.
    unsafe {
        let control = libc::CMSG_FIRSTHDR(header);
        if control.is_null() || (*control).cmsg_type != libc::SCM_CREDENTIALS {
            return None;
        }
        Some(std::ptr::read_unaligned(libc::CMSG_DATA(control).cast::<libc::ucred>()).pid)
    }
}
