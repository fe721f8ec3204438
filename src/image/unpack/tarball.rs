//! A layer's tar stream as a sequence of entries, every length bounded before a byte is held.
//!
//! Header fields are read by the `tar` crate. The walk from header to header is ours, for two reasons: the crate
//! reads long names and attributes into memory whole, whatever length they claim, and it ends a PAX record at the
//! first line break (POSIX gives each record a length, and a file capability may well hold the byte 10). Where
//! tar readers differ, this one does as Go's `archive/tar`, which made nearly every image there is.

use super::Failure;
use super::meter::failure;
use std::io::Read;
use tar::{EntryType, GnuExtSparseHeader, Header};

/// The most bytes of one long name or one set of attributes.
const EXTENSION_MAX: u64 = 1 << 20;
/// The most pieces of one sparse file.
const PIECES_MAX: usize = 100_000;
const BLOCK: u64 = 512;

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    HardLink,
    Symlink,
    Directory,
    Fifo,
    /// Character and block devices.
    Device,
    /// Whatever else there is (volume labels, sockets of odd archivers); its contents are passed over.
    Other,
}

/// One member of the archive, its extensions merged in.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) path: Vec<u8>,
    /// Target of a hard or symbolic link.
    pub(super) link: Vec<u8>,
    /// The twelve permission bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub(super) mtime: (i64, u32),
    /// The file's size; for a sparse file with its holes.
    pub(super) size: u64,
    /// `security.capability`, as the kernel stores it.
    pub(super) capability: Option<Vec<u8>>,
    /// Offset and length of the pieces of a sparse file, in order.
    pub(super) pieces: Option<Vec<(u64, u64)>>,
}

/// Walks the archive.
pub(super) struct Tarball<R> {
    inner: R,
    /// Bytes of the current entry that are not read yet.
    left: u64,
    /// Padding behind them.
    padding: u64,
}

#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    capability: Option<Vec<u8>>,
}

fn corrupt<T>(what: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Corrupt(what.into()))
}

impl<R: Read> Tarball<R> {
    pub(super) fn new(inner: R) -> Self {
        Tarball { inner, left: 0, padding: 0 }
    }

    /// The stream, wherever the walk stands in it.
    pub(super) fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry, or `None` at the end of the archive. What was not read of the one before is passed over.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Failure> {
        let (mut long_path, mut long_link, mut pax) = (None, None, None);
        loop {
            self.skip_rest()?;
            let Some(header) = self.header()? else {
                let dangling = long_path.is_some() || long_link.is_some() || pax.is_some();
                return if dangling { corrupt("its tar ends behind an extension header") } else { Ok(None) };
            };
            let size = header.entry_size().map_err(failure)?;
            let slot = match header.entry_type() {
                EntryType::GNULongName => &mut long_path,
                EntryType::GNULongLink => &mut long_link,
                EntryType::XHeader => &mut pax,
                EntryType::XGlobalHeader => {
                    self.extension(size)?;
                    continue;
                }
                _ => {
                    let mut extensions =
                        pax.map_or(Ok(Extensions::default()), |pax: Vec<u8>| Extensions::parse(&pax))?;
                    let text = |bytes: Vec<u8>| bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
                    extensions.path = long_path.map(text).or(extensions.path);
                    extensions.link = long_link.map(text).or(extensions.link);
                    return self.entry(&header, size, extensions).map(Some);
                }
            };
            if slot.is_some() {
                return corrupt("its tar has two extension headers of one kind for one entry");
            }
            *slot = Some(self.extension(size)?);
        }
    }

    /// Reads contents of the current entry; 0 at its end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        let want = self.left.min(buffer.len() as u64) as usize;
        if want == 0 {
            return Ok(0);
        }
        let count = self.inner.read(&mut buffer[..want]).map_err(failure)?;
        if count == 0 {
            return corrupt("its tar ends in the middle of a file");
        }
        self.left -= count as u64;
        Ok(count)
    }

    fn skip_rest(&mut self) -> Result<(), Failure> {
        let mut buffer = [0; 32 << 10];
        while self.read(&mut buffer)? > 0 {}
        self.left = std::mem::take(&mut self.padding);
        while self.read(&mut buffer)? > 0 {}
        Ok(())
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK - size % BLOCK) % BLOCK;
    }

    /// The next header block; `None` for a block of zeros or at a clean end.
    fn header(&mut self) -> Result<Option<Header>, Failure> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < block.len() {
            match self.inner.read(&mut block[filled..]).map_err(failure)? {
                0 if filled == 0 => return Ok(None),
                0 => return corrupt("its tar ends in the middle of a header"),
                count => filled += count,
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let counted = |at: usize| if (148..156).contains(&at) { b' ' } else { block[at] };
        let unsigned: u32 = (0..block.len()).map(|at| u32::from(counted(at))).sum();
        // Some very old archivers summed signed bytes.
        let signed: i64 = (0..block.len()).map(|at| i64::from(counted(at) as i8)).sum();
        match header.cksum() {
            Ok(sum) if sum == unsigned || i64::from(sum) == signed => Ok(Some(header)),
            _ => corrupt("it is not a tar archive, or a damaged one: a header's checksum is wrong"),
        }
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Failure> {
        if size > EXTENSION_MAX {
            return Err(Failure::Unsafe {
                entry: "a tar extension header".to_owned(),
                why: format!("it has {size} bytes, more than {EXTENSION_MAX}"),
            });
        }
        self.begin(size);
        let mut bytes = vec![0; size as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += self.read(&mut bytes[filled..])?;
        }
        Ok(bytes)
    }

    fn entry(&mut self, header: &Header, header_size: u64, extensions: Extensions) -> Result<Entry, Failure> {
        let path = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = extensions.link.unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
        let is_dir_name = path.ends_with(b"/");
        let mut kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous if is_dir_name => Kind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Link => Kind::HardLink,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Directory => Kind::Directory,
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char | EntryType::Block => Kind::Device,
            _ => Kind::Other,
        };
        let mut size = extensions.size.unwrap_or(header_size);
        let mut pieces = None;
        if header.entry_type() == EntryType::GNUSparse {
            let (real_size, map) = self.sparse_map(header, size)?;
            self.begin(size);
            size = real_size;
            pieces = Some(map);
        } else {
            // Links, directories and devices have no contents, whatever their size field says.
            if !matches!(kind, Kind::File | Kind::Other) && !matches!(header.entry_type(), EntryType::Regular) {
                size = 0;
            }
            if size > u64::MAX - BLOCK {
                return corrupt("its tar has an entry of impossible size");
            }
            self.begin(size);
        }
        if kind == Kind::Directory && size > 0 {
            kind = Kind::Other;
        }
        let id = |wide: u64| match u32::try_from(wide) {
            // u32::MAX means "leave it" to chown.
            Ok(id) if id != u32::MAX => Ok(id),
            _ => corrupt(format!("its tar has an owner of impossible number: {wide}")),
        };
        let number = |field: std::io::Result<u64>| field.map_err(failure);
        Ok(Entry {
            kind,
            mode: header.mode().map_err(failure)? & 0o7777,
            uid: id(extensions.uid.map_or_else(|| number(header.uid()), Ok)?)?,
            gid: id(extensions.gid.map_or_else(|| number(header.gid()), Ok)?)?,
            mtime: extensions.mtime.unwrap_or_else(|| (header.mtime().unwrap_or(0).min(MTIME_MAX) as i64, 0)),
            path,
            link,
            size,
            capability: extensions.capability,
            pieces,
        })
    }

    /// GNU's old sparse format: pieces in the header and in blocks behind it; the data of all follows.
    fn sparse_map(&mut self, header: &Header, stored: u64) -> Result<(u64, Vec<(u64, u64)>), Failure> {
        fn bad<T>() -> Result<T, Failure> {
            corrupt("its tar has a sparse file with an impossible map")
        }
        let Some(gnu) = header.as_gnu() else { return bad() };
        let mut pieces: Vec<(u64, u64)> = Vec::new();
        let (mut end, mut sum) = (0_u64, 0_u64);
        let mut add = |piece: &tar::GnuSparseHeader| -> Result<(), Failure> {
            if piece.is_empty() {
                return Ok(());
            }
            let (at, len) = (piece.offset().map_err(failure)?, piece.length().map_err(failure)?);
            match (at.checked_add(len), sum.checked_add(len)) {
                (Some(piece_end), Some(total)) if at >= end && pieces.len() < PIECES_MAX => {
                    (end, sum) = (piece_end, total);
                    pieces.push((at, len));
                    Ok(())
                }
                _ => bad(),
            }
        };
        gnu.sparse.iter().try_for_each(&mut add)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = GnuExtSparseHeader::new();
            self.inner.read_exact(block.as_mut_bytes()).map_err(failure)?;
            block.sparse.iter().try_for_each(&mut add)?;
            more = block.is_extended();
        }
        let real_size = gnu.real_size().map_err(failure)?;
        if end > real_size || sum != stored { bad() } else { Ok((real_size, pieces)) }
    }
}

/// The largest time that every file system takes; anything later is cut to it.
const MTIME_MAX: u64 = 0x3_7fff_ffff;

impl Extensions {
    /// PAX records, `LENGTH KEY=VALUE\n` each (POSIX.1-2017, pax, "pax Extended Header").
    fn parse(mut records: &[u8]) -> Result<Extensions, Failure> {
        let mut out = Extensions::default();
        fn bad<T>() -> Result<T, Failure> {
            corrupt("its tar has a malformed PAX header")
        }
        while !records.is_empty() {
            let Some(space) = records.iter().take(20).position(|byte| *byte == b' ') else { return bad() };
            let length = std::str::from_utf8(&records[..space]).ok().and_then(|digits| digits.parse::<usize>().ok());
            let Some(length) = length.filter(|l| *l > space + 2 && *l <= records.len()) else { return bad() };
            let (record, rest) = records.split_at(length);
            records = rest;
            let [record @ .., b'\n'] = &record[space + 1..] else { return bad() };
            let Some(equals) = record.iter().position(|byte| *byte == b'=') else { return bad() };
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            let number = || std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
            // An empty value takes back what was said before.
            match key {
                _ if value.is_empty() => {}
                b"path" => out.path = Some(value.to_vec()),
                b"linkpath" => out.link = Some(value.to_vec()),
                b"SCHILY.xattr.security.capability" => out.capability = Some(value.to_vec()),
                b"size" | b"uid" | b"gid" => {
                    let Some(number) = number() else { return bad() };
                    match key {
                        b"size" => out.size = Some(number),
                        b"uid" => out.uid = Some(number),
                        _ => out.gid = Some(number),
                    }
                }
                b"mtime" => out.mtime = Some(time(value).map_or_else(bad, Ok)?),
                _ if key.starts_with(b"GNU.sparse.") => {
                    return corrupt("it holds a sparse file in PAX form, which container tools do not write");
                }
                _ => {}
            }
        }
        Ok(out)
    }
}

/// `SECONDS[.FRACTION]`, with a sign perhaps.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = seconds.starts_with('-');
    let seconds = seconds.parse::<i64>().ok()?.clamp(-(1 << 31), MTIME_MAX as i64);
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos = digits.parse::<u32>().ok()?;
    Some(if negative && nanos > 0 { (seconds - 1, 1_000_000_000 - nanos) } else { (seconds, nanos) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pax(records: &[u8]) -> Result<Extensions, String> {
        Extensions::parse(records).map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn a_record_may_hold_line_breaks() {
        let records = b"43 SCHILY.xattr.security.capability=\x01\n\x00\x02\n=\n12 path=a\nb\n";
        let parsed = pax(records).expect("valid");
        assert_eq!(parsed.capability.as_deref(), Some(&b"\x01\n\x00\x02\n="[..]));
        assert_eq!(parsed.path.as_deref(), Some(&b"a\nb"[..]));
    }

    #[test]
    fn malformed_records_are_refused() {
        for records in
            [&b"x path=a\n"[..], b"99 path=a\n", b"9 path=ab\n", b"8 patha\n", b"0 =\n", b"10 uid=-1\n", b"path=a\n"]
        {
            assert!(pax(records).is_err(), "{:?}", String::from_utf8_lossy(records));
        }
    }

    #[test]
    fn times_have_nanoseconds_and_signs() {
        assert_eq!(time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"99999999999999"), Some((MTIME_MAX as i64, 0)));
        assert_eq!(time(b"1.x"), None);
    }
}
