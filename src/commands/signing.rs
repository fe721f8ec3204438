//! Addresses under which a result may be given, or a body put or fetched, without a token, for an hour: signed with a key that only this manager has.

use super::clock::Millis;
use crate::sys::file::put;
use ring::hmac;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// How long such an address is good for, and how far ahead one may say that it is.
const LIFE: Millis = 3600 * 1000;
const MOST_AHEAD: Millis = 2 * LIFE;

/// What an address of a body lets do; it is signed with the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    PutParams,
    GetParams,
    PutResponse,
    GetResponse,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Operation::PutParams => "put-params",
            Operation::GetParams => "get-params",
            Operation::PutResponse => "put-response",
            Operation::GetResponse => "get-response",
        }
    }
}

/// What is said of a signature that is good for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsigned {
    /// It is not ours.
    Foreign,
    /// It was.
    Late,
}

/// Signs and checks.
pub struct Signer(hmac::Key);

impl Signer {
    /// The key of a data folder, made where there is none; readable by its owner only.
    pub fn open(file: &Path) -> io::Result<Signer> {
        let key = match fs::read(file) {
            Ok(key) if key.len() >= 32 => key,
            Ok(_) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} holds no key", file.display())));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = super::tokens::random_text(32)?.into_bytes();
                put(file, 0o600, |file| file.write_all(key.as_slice()).and_then(|()| file.sync_all()))?;
                key
            }
            Err(error) => return Err(error),
        };
        Ok(Signer(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// The query under which a command's result may be given: `response_token` and `expires`, in seconds since 1970.
    pub fn query(&self, command: &str, now: Millis) -> String {
        let expires = (now + LIFE) / 1000;
        format!(
            "response_token={}&expires={expires}",
            hex(hmac::sign(&self.0, text(command, expires).as_bytes()).as_ref())
        )
    }

    /// The signature of an address of a body, and until when it is good, in seconds since 1970. `lease` is empty where it
    /// is nobody's in particular.
    pub fn sign(&self, operation: Operation, command: &str, lease: &str, now: Millis) -> (String, u64) {
        let expires = (now + LIFE) / 1000;
        (hex(hmac::sign(&self.0, body(operation, command, lease, expires).as_bytes()).as_ref()), expires)
    }

    /// Checks it, in constant time.
    ///
    /// # Errors
    /// Why it lets do nothing.
    pub fn check(
        &self,
        operation: Operation,
        command: &str,
        lease: &str,
        token: &str,
        expires: u64,
        now: Millis,
    ) -> Result<(), Unsigned> {
        let given = unhex(token).unwrap_or_default();
        let signed = hmac::verify(&self.0, body(operation, command, lease, expires).as_bytes(), &given);
        signed.map_err(|_| Unsigned::Foreign)?;
        if now / 1000 < expires { Ok(()) } else { Err(Unsigned::Late) }
    }

    /// Whether that query is ours and still good. Compares in constant time.
    pub fn allows(&self, command: &str, token: &str, expires: u64, now: Millis) -> bool {
        let fits = now / 1000 < expires && expires <= (now + MOST_AHEAD) / 1000;
        let given = unhex(token).unwrap_or_default();
        hmac::verify(&self.0, text(command, expires).as_bytes(), &given).is_ok() && fits
    }
}

fn text(command: &str, expires: u64) -> String {
    format!("commands.v1:{command}:{expires}")
}

/// Begins otherwise than [`text`], so that one is never taken for the other.
fn body(operation: Operation, command: &str, lease: &str, expires: u64) -> String {
    format!("payload.v1:{}:{expires}:{command}:{lease}", operation.as_str())
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// 32 bytes from hexadecimal.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(byte).collect()
}
