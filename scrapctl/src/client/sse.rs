//! Server-sent events out of a stream of bytes. Pure: bytes in, messages out; never more memory than the limits.

use std::mem;

use thiserror::Error;

/// Longest line.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Longest text of one message.
const DATA_BYTES_MAX: usize = 4 << 20;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Its kind; empty if it has none.
    pub(crate) event: String,
    /// Its text.
    pub(crate) data: String,
    /// From here to go on, if it says so.
    pub(crate) id: Option<String>,
}

/// A line or message that is longer than anything a node sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an event is longer than {0} bytes")]
pub(crate) struct TooLong(usize);

/// The state between two pieces of the stream.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed after it belongs to the same end of line.
    after_return: bool,
    event: String,
    data: String,
    has_data: bool,
    id: Option<String>,
}

impl Parser {
    /// Takes the next piece; gives the messages that are complete with it.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Message>, TooLong> {
        let mut messages = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' if mem::take(&mut self.after_return) => (),
                b'\n' | b'\r' => {
                    self.after_return = *byte == b'\r';
                    let line = mem::take(&mut self.line);
                    messages.extend(self.end_line(&String::from_utf8_lossy(&line))?);
                }
                other => {
                    self.after_return = false;
                    if self.line.len() >= LINE_BYTES_MAX {
                        return Err(TooLong(LINE_BYTES_MAX));
                    }
                    self.line.push(*other);
                }
            }
        }
        Ok(messages)
    }

    fn end_line(&mut self, line: &str) -> Result<Option<Message>, TooLong> {
        let line = line.trim_start_matches('\u{feff}');
        if line.is_empty() {
            return Ok(self.end_message());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if self.data.len() + value.len() > DATA_BYTES_MAX {
                    return Err(TooLong(DATA_BYTES_MAX));
                }
                if mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            // Comments (an empty field: the heartbeat), `retry`, and what later versions may add.
            _ => (),
        }
        Ok(None)
    }

    fn end_message(&mut self) -> Option<Message> {
        let event = mem::take(&mut self.event);
        let data = mem::take(&mut self.data);
        let id = self.id.take();
        mem::take(&mut self.has_data).then_some(Message { event, data, id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str, Option<&str>)]) {
        let expected: Vec<Message> = expected
            .iter()
            .map(|(event, data, id)| Message {
                event: (*event).to_owned(),
                data: (*data).to_owned(),
                id: id.map(str::to_owned),
            })
            .collect();
        let whole = Parser::default().push(text.as_bytes()).unwrap();
        assert_eq!(whole, expected, "whole");
        // However the network cuts it, it means the same.
        for size in 1..text.len().max(2) {
            let mut parser = Parser::default();
            let parts = text.as_bytes().chunks(size);
            let parts: Vec<Message> = parts.flat_map(|part| parser.push(part).unwrap()).collect();
            assert_eq!(parts, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn a_message_ends_with_an_empty_line() {
        check("event: node\ndata: {\"a\":1}\nid: 7\n\n", &[("node", "{\"a\":1}", Some("7"))]);
        check("event: node\ndata: unfinished\n", &[]);
    }

    #[test]
    fn every_end_of_line_is_one() {
        check(
            "data: a\r\n\r\ndata: b\r\rdata: c\n\n",
            &[("", "a", None), ("", "b", None), ("", "c", None)],
        );
    }

    #[test]
    fn heartbeats_and_unknown_fields_are_no_messages() {
        check(": still here\n\nretry: 10\n\ndata: x\n\n", &[("", "x", None)]);
    }

    #[test]
    fn several_data_lines_are_one_text() {
        check("data: a\ndata:b\ndata\n\n", &[("", "a\nb\n", None)]);
    }

    #[test]
    fn an_id_belongs_to_its_message_only() {
        check("id: 4\ndata: a\n\ndata: b\n\n", &[("", "a", Some("4")), ("", "b", None)]);
    }

    #[test]
    fn letters_cut_in_two_are_whole_again() {
        check("data: größe\n\n", &[("", "größe", None)]);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; LINE_BYTES_MAX];
        assert_eq!(parser.push(&piece), Ok(Vec::new()));
        assert_eq!(parser.push(b"x"), Err(TooLong(LINE_BYTES_MAX)));
    }

    #[test]
    fn an_endless_message_is_refused() {
        let mut parser = Parser::default();
        let line = format!("data: {}\n", "x".repeat(LINE_BYTES_MAX - 10));
        let ends: Vec<bool> = (0..5).map(|_| parser.push(line.as_bytes()).is_err()).collect();
        assert_eq!(ends, [false, false, false, false, true]);
    }
}
