//! The 64 bytes that go each way, all of them a function of connection id and incarnation, so that every byte can be checked
//! and a byte of another connection or of an earlier incarnation is noticed.

/// Length of request and of response, bytes.
pub(crate) const PAYLOAD_BYTES: usize = 64;

/// Which connection: a slot of the client, and how often that slot has been used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    /// The client's slot.
    pub connection: u64,
    /// Uses of the slot so far.
    pub incarnation: u64,
}

/// The request of a connection.
pub(crate) fn request(identity: Identity) -> [u8; PAYLOAD_BYTES] {
    fill(identity, REQUEST_MARK)
}

/// The response to a connection's request.
pub(crate) fn response(identity: Identity) -> [u8; PAYLOAD_BYTES] {
    fill(identity, RESPONSE_MARK)
}

/// Whose request this is; `None` when any byte differs from what that connection would have sent.
pub(crate) fn check_request(bytes: &[u8; PAYLOAD_BYTES]) -> Option<Identity> {
    let identity = Identity { connection: word(bytes, 1), incarnation: word(bytes, 2) };
    (*bytes == request(identity)).then_some(identity)
}

/// Whether every byte is the response to this connection's request.
pub(crate) fn check_response(bytes: &[u8; PAYLOAD_BYTES], identity: Identity) -> bool {
    *bytes == response(identity)
}

fn fill(identity: Identity, mark: u64) -> [u8; PAYLOAD_BYTES] {
    let mut bytes = [0; PAYLOAD_BYTES];
    let mut state = mark ^ identity.connection.rotate_left(32) ^ identity.incarnation;
    for (index, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        let value = match index {
            0 => mark,
            1 => identity.connection,
            2 => identity.incarnation,
            _ => {
                state = state.wrapping_mul(MULTIPLIER).wrapping_add(mark);
                state ^ (state >> 29)
            }
        };
        chunk.copy_from_slice(&value.to_be_bytes());
    }
    bytes
}

fn word(bytes: &[u8; PAYLOAD_BYTES], index: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[index * 8..index * 8 + 8]);
    u64::from_be_bytes(word)
}

/// First 8 bytes of a request.
const REQUEST_MARK: u64 = u64::from_be_bytes(*b"SYNFINrq");
/// First 8 bytes of a response.
const RESPONSE_MARK: u64 = u64::from_be_bytes(*b"SYNFINrs");
/// Odd multiplier of the generator behind the remaining words.
const MULTIPLIER: u64 = 0xd134_2543_de82_ef95;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_with_any_byte_changed_is_refused() {
        let identity = Identity { connection: 7, incarnation: 123_456 };
        let good = request(identity);
        assert_eq!(check_request(&good), Some(identity));
        for index in 0..PAYLOAD_BYTES {
            let mut bad = good;
            bad[index] ^= 1;
            assert_ne!(check_request(&bad), Some(identity), "byte {index}");
            assert_eq!(check_request(&bad), None, "byte {index}");
        }
    }

    #[test]
    fn response_of_an_earlier_incarnation_is_refused() {
        let now = Identity { connection: 7, incarnation: 2 };
        let before = Identity { connection: 7, incarnation: 1 };
        let neighbour = Identity { connection: 6, incarnation: 2 };
        assert!(check_response(&response(now), now));
        assert!(!check_response(&response(before), now));
        assert!(!check_response(&response(neighbour), now));
        assert!(!check_response(&request(now), now));
    }
}
