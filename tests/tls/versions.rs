//! Versions of TLS, and the order of INFO and the handshake.

use natseq::client::rustls::ProtocolVersion;
use natseq::client::rustls::version::{TLS12, TLS13};

use crate::rig::{
    INFO, Script, nothing_in_clear, quick, recording, server_config_of, trusting, url, welcome,
};
use crate::support::certificates::Authority;

#[tokio::test]
async fn servers_that_speak_one_version_alone_are_understood() {
    let authority = Authority::new();
    let identity = authority.issue(&["localhost"]);
    for (version, expected) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let config = server_config_of(&identity, &[version]);
        let script = Script::listen().await;
        let proxy = recording(script.address());
        let options = quick().tls(trusting(&authority));
        let url = url("tls", "localhost", proxy.address());
        let serving = async {
            let mut stream = script.upgrade(INFO, &config).await.unwrap();
            welcome(&mut stream).await;
            stream
        };
        let (client, stream) = tokio::join!(options.connect(&url), serving);
        assert!(client.unwrap().is_connected());
        assert_eq!(stream.get_ref().1.protocol_version(), Some(expected));
        nothing_in_clear(&proxy);
    }
}
