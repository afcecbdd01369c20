//! The way back of a rewritten path: what the upstream calls `/internal/7` the client calls `/v1/orders/7`.

/// One piece of a path, as a rewrite sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text that stands in every path.
    Text(String),
    /// The path parameter of this index: one segment.
    Segment(usize),
    /// The path parameter of this index: the rest of the path.
    Rest(usize),
}

/// A rewrite that can be undone: every parameter of the client's path stands in the upstream's too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathBack {
    upstream: Vec<Piece>,
    client: Vec<Piece>,
}

impl PathBack {
    /// The way back from `upstream` to `client`; none where the upstream's path lost a parameter.
    #[must_use]
    pub fn new(upstream: Vec<Piece>, client: Vec<Piece>) -> Option<Self> {
        let index = |piece: &Piece| match piece {
            Piece::Text(_) => None,
            Piece::Segment(index) | Piece::Rest(index) => Some(*index),
        };
        let known: Vec<usize> = upstream.iter().filter_map(index).collect();
        let complete = client
            .iter()
            .filter_map(index)
            .all(|needed| known.contains(&needed));
        complete.then_some(Self { upstream, client })
    }

    /// The client's path for the upstream's `path`; none where it is not of the rewritten form.
    #[must_use]
    pub fn undo(&self, path: &str) -> Option<String> {
        let mut found: Vec<(usize, &str)> = Vec::new();
        let mut rest = path;
        let mut inside_segment = false;
        for piece in &self.upstream {
            match piece {
                Piece::Text(text) => {
                    rest = rest.strip_prefix(text.as_str())?;
                    inside_segment = !text.ends_with('/');
                }
                Piece::Segment(index) => {
                    let (value, after) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                    if value.is_empty() {
                        return None;
                    }
                    found.push((*index, value));
                    rest = after;
                }
                // `/internalx` is not below `/internal`.
                Piece::Rest(_) if inside_segment && !rest.is_empty() && !rest.starts_with('/') => {
                    return None;
                }
                Piece::Rest(index) => {
                    found.push((*index, rest));
                    rest = "";
                }
            }
        }
        if !rest.is_empty() {
            return None;
        }
        let mut out = String::new();
        for piece in &self.client {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Segment(index) | Piece::Rest(index) => {
                    out.push_str(found.iter().find(|(known, _)| known == index)?.1);
                }
            }
        }
        Some(if out.is_empty() { "/".to_owned() } else { out })
    }
}
