//! Sizes that lie, and payloads that end otherwise than their size says.

use natseq::session::LinkError;
use natseq::wire::{FrameError, Limits};

use crate::Rig;

/// Sizes up to this one are also delivered with as many bytes.
const DELIVERED_BYTES_MAX: usize = 70_000;

#[tokio::test]
async fn a_lying_size_ends_the_connection_or_waits_for_its_bytes() {
    let mut rig = Rig::new().await;
    for size in sizes() {
        for (header, total) in [
            (None, size.clone()),
            (Some("12".to_owned()), size.clone()),
            (Some(size.clone()), size.clone()),
            (Some(size.clone()), "5".to_owned()),
            (Some(size.clone()), "99999".to_owned()),
        ] {
            check(&mut rig, header.as_deref(), &total).await;
        }
    }
}

/// One declared pair of sizes.
async fn check(rig: &mut Rig, header: Option<&str>, total: &str) {
    let line = match header {
        None => format!("MSG a 1 {total}\r\n"),
        Some(header) => format!("HMSG a 1 {header} {total}\r\n"),
    };
    let len = match verdict(header, total) {
        Ok(len) => len,
        Err(error) => {
            let bytes = [line.as_bytes(), &[b'x'; 100]].concat();
            return rig.breaks(&bytes, &LinkError::Frame(error)).await;
        }
    };
    if len <= DELIVERED_BYTES_MAX {
        let body = vec![b'x'; len];
        rig.peer
            .say(&[line.as_bytes(), &body, b"\r\n"].concat())
            .await;
        let message = rig.message(&line).await;
        assert_eq!(message.body_len(), len, "{line}");
        let header_len = message.headers().map_or(0, |block| block.raw().len());
        assert_eq!(header_len + message.payload().len(), len, "{line}");
        rig.works(&line).await;
    }
    if len > 0 {
        let body = vec![b'x'; len.min(1_024) - 1];
        rig.breaks_off(&[line.as_bytes(), &body].concat()).await;
    }
}

/// What the sizes mean, by the naive rule: the length of the body, or why it is refused.
fn verdict(header: Option<&str>, total: &str) -> Result<usize, FrameError> {
    let read = |digits: &str| {
        let is_size =
            (1..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_size {
            Ok(digits.parse::<usize>().unwrap())
        } else {
            Err(FrameError::BadSize)
        }
    };
    let header = header.map_or(Ok(0), read)?;
    let found = read(total)?;
    if header > found {
        return Err(FrameError::HeaderLargerThanTotal);
    }
    let max = Limits::SERVER_OPS.payload_bytes_max;
    if found > max {
        return Err(FrameError::PayloadTooLong { found, max });
    }
    Ok(found)
}

/// Every boundary of an integer type, and what is no size.
fn sizes() -> Vec<String> {
    let mut sizes: Vec<String> = (7..=64)
        .flat_map(|power| {
            let boundary = 1_u128 << power;
            [boundary - 1, boundary, boundary + 1]
        })
        .chain([0, 1, 2, 67_108_864, 67_108_865, 99_999_999])
        .chain([100_000_000, 999_999_999, 1_000_000_000, 9_999_999_999])
        .map(|size| size.to_string())
        .collect();
    let others = [
        "000000005",
        "0000000005",
        "00000000000000000000005",
        "000000000",
        "-0",
        "-1",
        "+5",
        "--5",
        "5-",
        "0x5",
        "0b1",
        "1e3",
        "5.0",
        "5,",
        "5_0",
        "NaN",
        "x",
        "\u{0665}",
        "\u{ff15}",
        "'5'",
        "\0",
        "5\0",
        "-9223372036854775808",
        "-2147483648",
        "18446744073709551616000",
        "\u{b}5",
        "5\r",
    ];
    sizes.extend(others.map(str::to_owned));
    sizes
}

#[tokio::test]
async fn a_payload_without_its_line_end_ends_the_connection_undelivered() {
    let mut rig = Rig::new().await;
    let reason = LinkError::Frame(FrameError::PayloadTerminator);
    for end in [
        "\n",
        "\rX",
        "XX",
        "\n\r",
        " \r\n",
        "\0\0",
        "x\r\n",
        "\r\r\n",
        "\u{85}",
        "MSG a 1 0\r\n",
    ] {
        for line in [
            "MSG a 1 5\r\nhello",
            "MSG a 1 r 0\r\n",
            "HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi",
        ] {
            rig.breaks(format!("{line}{end}").as_bytes(), &reason).await;
        }
    }
    // One byte less than declared makes the CR LF begin inside.
    rig.breaks(b"MSG a 1 6\r\nhello\r\nPING\r\n", &reason).await;
    rig.breaks(b"MSG a 1 4\r\nhello\r\n", &reason).await;
    // A CR alone may still become a line end.
    rig.breaks_off(b"MSG a 1 5\r\nhello\r").await;
}
