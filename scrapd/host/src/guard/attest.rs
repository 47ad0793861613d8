//! The guard's word to other nodes that nothing runs any more under a registration: one datagram. What proves it is a
//! number that the daemon drew when it registered, and whose hash everybody has since then: who sees the datagram can say
//! the same again, and that is still true.

use scrap_schema::id::{BootId, NodeId};

use rustix::io::Errno;

/// What the datagram begins with.
const MAGIC: [u8; 8] = *b"SCRAPend";
/// Magic, node, boot, token.
pub const LENGTH: usize = 8 + 8 + 8 + 32;

/// What proves the end of a registration. Drawn at its beginning, told at its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token(pub(super) [u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// One that nobody has.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn draw() -> std::io::Result<Self> {
        let mut bytes = [0; 32];
        let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        if got != bytes.len() {
            return Err(Errno::AGAIN.into());
        }
        Ok(Self(bytes))
    }

    /// What everybody may know of it, as text.
    #[must_use]
    pub fn seal(&self) -> String {
        blake3::hash(&self.0).to_hex().to_string()
    }
}

/// The guard's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// Of this node.
    pub node: NodeId,
    /// Nothing of this registration that needs the lease runs, or ever will.
    pub boot: BootId,
    /// Proves it.
    pub token: Token,
}

impl Word {
    /// As a datagram.
    #[must_use]
    pub fn datagram(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        let (node, boot) = (self.node.0.to_be_bytes(), self.boot.0.to_be_bytes());
        let all = MAGIC.iter().chain(&node).chain(&boot).chain(&self.token.0);
        for (to, from) in bytes.iter_mut().zip(all) {
            *to = *from;
        }
        bytes
    }

    /// From a datagram. `None`: it is something else.
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let rest = datagram.strip_prefix(&MAGIC)?;
        let (node, rest) = rest.split_first_chunk::<8>()?;
        let (boot, rest) = rest.split_first_chunk::<8>()?;
        let token = <[u8; 32]>::try_from(rest).ok()?;
        let (node, boot) = (NodeId(u64::from_be_bytes(*node)), BootId(u64::from_be_bytes(*boot)));
        Some(Self { node, boot, token: Token(token) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_read_as_it_was_written_and_nothing_else_is_one() {
        let word = Word { node: NodeId(3), boot: BootId(u64::MAX), token: Token::draw().unwrap() };
        let datagram = word.datagram();
        assert_eq!(Word::parse(&datagram), Some(word));
        for length in 0..LENGTH {
            assert_eq!(Word::parse(&datagram[..length]), None);
        }
        assert_eq!(Word::parse(&[&datagram[..], b"x"].concat()), None);
        let mut other = datagram;
        other[0] ^= 1;
        assert_eq!(Word::parse(&other), None);
    }

    #[test]
    fn two_tokens_have_two_seals_and_neither_shows_itself() {
        let (one, two) = (Token::draw().unwrap(), Token::draw().unwrap());
        assert_ne!(one.seal(), two.seal());
        assert_eq!(one.seal().len(), 64);
        assert_eq!(format!("{one:?}"), "Token(…)");
    }
}
