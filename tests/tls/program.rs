//! The program under TLS, with the roots of the system.

use std::path::Path;
use std::process::Command;

use crate::support::certificates::Authority;
use crate::support::program::{Program, READY};
use crate::support::{Folder, PATIENCE, RealServer, server};

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
    let folder = Folder::new();
    let authority = Authority::new();
    let roots = folder.path.join("roots.pem");
    std::fs::write(&roots, &authority.pem).unwrap();
    let (certificate, key) = authority
        .issue(&["127.0.0.1"])
        .write(&folder.path, "server");
    let config = format!("tls {{ cert_file: {certificate:?}, key_file: {key:?} }}");
    let running = RealServer::start(&binary, &config);
    // The server requires TLS, so the plain scheme ends up encrypted as well.
    for url in [running.url(), running.url().replace("nats://", "tls://")] {
        let sub = ["sub", "d.x", "--count", "1", "--json", "-s", &url];
        let sub = Program::start(&mut natseq(&sub, &roots), None);
        sub.wait_for_error(READY);
        let publish = ["pub", "d.x", "under tls", "-s", &url];
        Program::start(&mut natseq(&publish, &roots), None).succeed();
        let heard = sub.succeed();
        assert!(heard[0].contains("under tls"), "{heard:?}");

        let nobody = Path::new(env!("CARGO_MANIFEST_DIR")).join("LICENSE-MIT");
        let refused = Program::start(&mut natseq(&publish, &nobody), None).finish(PATIENCE);
        assert!(!refused.status.success());
        let errors = refused.errors.join("\n");
        assert!(errors.contains("certificate"), "{errors}");
    }
}
