//! An operation taken apart, so that one part of it can be damaged.

/// The bytes of an operation in the order in which they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Draft {
    /// In front of the name.
    pub(super) lead: Vec<u8>,
    pub(super) name: Vec<u8>,
    pub(super) arguments: Vec<Vec<u8>>,
    /// In front of each argument.
    pub(super) separator: Vec<u8>,
    pub(super) line_end: Vec<u8>,
    /// Headers and payload.
    pub(super) body: Vec<u8>,
    pub(super) header_len: usize,
    pub(super) body_end: Vec<u8>,
}

impl Draft {
    /// Takes the bytes of one operation in its plainest form apart.
    pub(super) fn new(frame: &[u8]) -> Self {
        let line_len = frame.windows(2).position(|pair| pair == b"\r\n");
        let (line, rest) = frame.split_at(line_len.unwrap_or(frame.len()));
        let rest = rest.strip_prefix(b"\r\n").unwrap_or_default();
        let mut words = line.splitn(2, |byte| *byte == b' ');
        let name = words.next().unwrap_or_default();
        let arguments = words.next().map(|text| {
            if matches!(name, b"CONNECT" | b"INFO" | b"-ERR") {
                vec![text.to_vec()]
            } else {
                text.split(|byte| *byte == b' ')
                    .map(<[u8]>::to_vec)
                    .collect()
            }
        });
        let mut draft = Self {
            lead: Vec::new(),
            name: name.to_vec(),
            arguments: arguments.unwrap_or_default(),
            separator: b" ".to_vec(),
            line_end: b"\r\n".to_vec(),
            body: Vec::new(),
            header_len: 0,
            body_end: Vec::new(),
        };
        if let Some(body) = rest.strip_suffix(b"\r\n") {
            draft.body = body.to_vec();
            draft.body_end = b"\r\n".to_vec();
        }
        if draft.has_headers() {
            draft.header_len = draft.number_before(1);
        }
        draft
    }

    pub(super) fn has_body(&self) -> bool {
        !self.body_end.is_empty()
    }

    pub(super) fn has_headers(&self) -> bool {
        matches!(self.name.as_slice(), b"HPUB" | b"HMSG")
    }

    /// The total size's digits.
    pub(super) fn size(&mut self) -> Option<&mut Vec<u8>> {
        if self.has_body() {
            self.arguments.last_mut()
        } else {
            None
        }
    }

    /// The header size's digits.
    pub(super) fn header_size(&mut self) -> Option<&mut Vec<u8>> {
        if !self.has_headers() {
            return None;
        }
        let index = self.arguments.len().checked_sub(2)?;
        self.arguments.get_mut(index)
    }

    /// Puts other headers into the body; the sizes say so.
    pub(super) fn replace_headers(&mut self, headers: &[u8]) {
        let payload = self.body.split_off(self.header_len.min(self.body.len()));
        self.body = [headers, &payload].concat();
        self.header_len = headers.len();
        let total = self.body.len().to_string().into_bytes();
        let header = self.header_len.to_string().into_bytes();
        if let Some(digits) = self.header_size() {
            *digits = header;
        }
        if let Some(digits) = self.size() {
            *digits = total;
        }
    }

    pub(super) fn headers(&self) -> &[u8] {
        self.body.get(..self.header_len).unwrap_or_default()
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = [self.lead.as_slice(), &self.name].concat();
        for argument in &self.arguments {
            bytes.extend_from_slice(&self.separator);
            bytes.extend_from_slice(argument);
        }
        for piece in [&self.line_end, &self.body, &self.body_end] {
            bytes.extend_from_slice(piece);
        }
        bytes
    }

    fn number_before(&self, behind: usize) -> usize {
        let index = self.arguments.len().checked_sub(behind.saturating_add(1));
        let digits = index.and_then(|index| self.arguments.get(index));
        let text = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        text.and_then(|text| text.parse().ok()).unwrap_or_default()
    }
}
