//! What a signed address of a body lets do, and for how long.

use alien_core::commands::signing::{Operation, Signer, Unsigned};

const HOUR: u64 = 3600 * 1000;
const NOW: u64 = 1_800_000_000_000;
const ALL: [Operation; 4] =
    [Operation::PutParams, Operation::GetParams, Operation::PutResponse, Operation::GetResponse];

#[test]
fn an_address_is_good_for_an_hour_and_for_what_it_is_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let signer = Signer::open(&folder.path().join("key")).expect("a key");
    for operation in ALL {
        let (token, expires) = signer.sign(operation, "cmd_1", "lease_1", NOW);
        let check = |now| signer.check(operation, "cmd_1", "lease_1", &token, expires, now);
        assert_eq!(check(NOW), Ok(()));
        assert_eq!(check(NOW + HOUR - 1000), Ok(()));
        assert_eq!(check(NOW + HOUR), Err(Unsigned::Late));
        for other in ALL.into_iter().filter(|other| *other != operation) {
            assert_eq!(signer.check(other, "cmd_1", "lease_1", &token, expires, NOW), Err(Unsigned::Foreign));
        }
        for (command, lease, expires) in [
            ("cmd_2", "lease_1", expires),
            ("cmd_1", "lease_2", expires),
            ("cmd_1", "", expires),
            ("cmd_1", "lease_1", expires + 1),
        ] {
            assert_eq!(signer.check(operation, command, lease, &token, expires, NOW), Err(Unsigned::Foreign));
        }
        // Of what is both late and foreign, only the latter is told.
        assert_eq!(signer.check(operation, "cmd_2", "lease_1", &token, expires, NOW + HOUR), Err(Unsigned::Foreign));
    }
    let again = Signer::open(&folder.path().join("key")).expect("the same key");
    let (token, expires) = signer.sign(Operation::GetParams, "cmd_1", "", NOW);
    assert_eq!(again.check(Operation::GetParams, "cmd_1", "", &token, expires, NOW), Ok(()));
    let other = Signer::open(&folder.path().join("other")).expect("another key");
    assert_eq!(other.check(Operation::GetParams, "cmd_1", "", &token, expires, NOW), Err(Unsigned::Foreign));
}
