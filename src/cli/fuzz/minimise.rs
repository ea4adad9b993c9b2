//! Makes a finding's input smaller while it stays a finding.

/// Attempts at most; each takes two conversations.
const ATTEMPTS_MAX: usize = 200;

/// Leaves out as much of `pieces` as possible; `is_finding` decides.
pub(super) async fn minimise<F>(mut pieces: Vec<Vec<u8>>, mut is_finding: F) -> Vec<Vec<u8>>
where
    F: AsyncFnMut(&[Vec<u8>]) -> bool,
{
    let mut attempts = 0_usize;
    // Whole operations first, again as long as something goes: one may need another.
    let mut has_shrunk = true;
    while has_shrunk {
        has_shrunk = false;
        let mut index = 0_usize;
        while index < pieces.len() && attempts < ATTEMPTS_MAX {
            let mut fewer = pieces.clone();
            fewer.remove(index);
            attempts = attempts.saturating_add(1);
            if is_finding(&fewer).await {
                pieces = fewer;
                has_shrunk = true;
            } else {
                index = index.saturating_add(1);
            }
        }
    }
    // Then halves of each, quarters and so on down to bytes.
    for index in 0..pieces.len() {
        let mut len = pieces.get(index).map_or(0, Vec::len).div_ceil(2);
        while len > 0 && attempts < ATTEMPTS_MAX {
            let mut start = 0_usize;
            while let Some(piece) = pieces.get(index)
                && start < piece.len()
                && attempts < ATTEMPTS_MAX
            {
                let end = start.saturating_add(len).min(piece.len());
                let mut shorter = pieces.clone();
                if let Some(piece) = shorter.get_mut(index) {
                    piece.drain(start..end);
                }
                attempts = attempts.saturating_add(1);
                if is_finding(&shorter).await {
                    pieces = shorter;
                } else {
                    start = end;
                }
            }
            len /= 2;
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_matter_is_left_out() {
        let pieces = [
            b"PING\r\n".to_vec(),
            b"PUB abcdef 1\r\nx\r\n".to_vec(),
            b"SUB a 1\r\n".to_vec(),
        ];
        let left = minimise(pieces.to_vec(), async |pieces: &[Vec<u8>]| {
            pieces.concat().windows(2).any(|pair| pair == b"cd")
        })
        .await;
        assert_eq!(left, [b"cd"]);
    }

    #[tokio::test]
    async fn what_another_piece_needed_is_left_out_after_it() {
        let pieces = [b"C".to_vec(), b"H".to_vec(), b"X".to_vec()];
        // Without C, H ends everything before X.
        let left = minimise(pieces.to_vec(), async |pieces: &[Vec<u8>]| {
            let bytes = pieces.concat();
            bytes.contains(&b'X') && (bytes.contains(&b'C') || !bytes.contains(&b'H'))
        })
        .await;
        assert_eq!(left, [b"X"]);
    }
}
