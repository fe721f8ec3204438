// A program whose first instruction can be timed: it prints when it began, in nanoseconds since 1970, and stays.

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    println!("{}", now.as_nanos());
    loop {
        std::thread::park();
    }
}
