//! TLS with a real server: it works with a trusted certificate and says nothing secret without one.
#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::program::{Program, READY};
use support::{PATIENCE, RealServer, server};

/// A certificate for 127.0.0.1 that vouches for itself, and its key, as files.
fn certificate() -> (PathBuf, PathBuf) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (certificate, key)
}

fn natseq(arguments: &[&str], roots: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natseq"));
    command
        .args(arguments)
        .env("SSL_CERT_FILE", roots)
        .env_remove("SSL_CERT_DIR");
    command
}

#[test]
fn messages_pass_under_tls_and_an_unknown_certificate_is_refused() {
    let Some(binary) = server("TLS", "2.15.1") else {
        return;
    };
    let (certificate, key) = certificate();
    let config = format!("tls {{ cert_file: {certificate:?}, key_file: {key:?} }}");
    let running = RealServer::start(&binary, &config);
    // The server requires TLS, so the plain scheme ends up encrypted as well.
    for url in [running.url(), running.url().replace("nats://", "tls://")] {
        let sub = ["sub", "d.x", "--count", "1", "--json", "-s", &url];
        let sub = Program::start(&mut natseq(&sub, &certificate), None);
        sub.wait_for_error(READY);
        let publish = ["pub", "d.x", "under tls", "-s", &url];
        Program::start(&mut natseq(&publish, &certificate), None).succeed();
        let heard = sub.succeed();
        assert!(heard[0].contains("under tls"), "{heard:?}");

        let nobody = Path::new(env!("CARGO_MANIFEST_DIR")).join("LICENSE-MIT");
        let refused = Program::start(&mut natseq(&publish, &nobody), None).finish(PATIENCE);
        assert!(!refused.status.success());
        let errors = refused.errors.join("\n");
        assert!(errors.contains("certificate"), "{errors}");
    }
}
