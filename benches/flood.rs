// A program that prints as fast as it is read: FLOOD bytes of numbered lines of 100 bytes, then how long that took
// (`took NANOSECONDS`), and stays.

use std::io::Write;
use std::time::Instant;

const LINE: usize = 100;
const PIECE: usize = 640 * LINE;

fn main() {
    let bytes: usize = std::env::var("FLOOD").ok().and_then(|text| text.parse().ok()).expect("FLOOD=BYTES");
    let mut out = std::io::stdout().lock().into_inner_writer();
    // Numbers are written over in place: the program must cost less than what reads it.
    let mut piece = vec![b'-'; PIECE];
    piece.iter_mut().skip(LINE - 1).step_by(LINE).for_each(|byte| *byte = b'\n');
    let mut number = *b"000000000000";
    piece.iter_mut().skip(number.len()).step_by(LINE).for_each(|byte| *byte = b' ');
    let began = Instant::now();
    for _ in 0..bytes / PIECE {
        for line in piece.chunks_exact_mut(LINE) {
            increment(&mut number);
            line[..number.len()].copy_from_slice(&number);
        }
        out.write_all(&piece).expect("somebody reads");
    }
    let took = began.elapsed().as_nanos();
    writeln!(out, "took {took}").expect("somebody reads");
    loop {
        std::thread::park();
    }
}

fn increment(number: &mut [u8]) {
    for digit in number.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
}

/// Standard output without the line buffer that Rust puts before it.
trait Unbuffered {
    fn into_inner_writer(self) -> std::fs::File;
}

impl Unbuffered for std::io::StdoutLock<'static> {
    fn into_inner_writer(self) -> std::fs::File {
        use std::os::fd::AsFd;
        std::fs::File::from(self.as_fd().try_clone_to_owned().expect("a descriptor"))
    }
}
