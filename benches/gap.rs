// A program whose first and last instructions can be timed: it prints when it began, and writes down over and over in the
// file that its argument names that it still runs; nanoseconds since 1970 both. SIGTERM ends it at once.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

fn main() {
    println!("{}", now());
    let path = std::env::args().nth(1).expect("a file");
    let file = File::options().write(true).create(true).truncate(false).open(path).expect("a file");
    loop {
        file.write_all_at(format!("{:020}", now()).as_bytes(), 0).expect("to write");
        std::thread::sleep(Duration::from_micros(50));
    }
}
