//! Sending: a snapshot as a stream in our envelope. The pool itself keeps what is being sent from going away.

use scrap_schema::snapshot::Guid;
use tokio::io::AsyncWrite;

use super::found::Found;
use super::library::Ends;
use super::stream::{self, Header, PIECE, Writer};
use super::{Held, Inner, Result, words};
use crate::datasets::{Cause, DatasetId};

/// A stream that can be made.
pub(super) struct Plan {
    arguments: Vec<String>,
    ends: Ends,
    header: Header,
}

impl Inner {
    /// What a stream would be, by the snapshots that are here now.
    pub(super) async fn plan(&self, held: &mut Held, from: Option<Guid>, to: Guid) -> Result<Plan> {
        let found = held.must(self).await?;
        let plan = self.plan_of(&found, from, to)?;
        held.keep(found);
        Ok(plan)
    }

    fn plan_of(&self, found: &Found, from: Option<Guid>, to: Guid) -> Result<Plan> {
        let to = found.snap(to)?;
        if let Some(guid) = from {
            let base = found.base(guid)?;
            let at = |guid| found.line().position(|snap| snap.snapshot.guid == guid);
            let comes_before = match at(guid) {
                Some(at_base) => Some(at_base) < at(to.snapshot.guid),
                None => base.order() < to.order(),
            };
            if !comes_before {
                return Err(Cause::Diverged { newest: Some(to.snapshot.guid), from });
            }
        }
        let from = from.map(|from| found.base(from)).transpose()?;
        let dataset = |full: &str| full.split(['@', '#']).next().unwrap_or_default().to_owned();
        let clone = from.is_some_and(|from| dataset(&from.full) != dataset(&to.full));
        let mut arguments = vec!["send".to_owned()];
        if self.can.compressed {
            arguments.extend(["-L", "-c", "-e"].map(str::to_owned));
        }
        if let Some(from) = from {
            arguments.extend(["-i".to_owned(), from.full.clone()]);
        }
        arguments.push(to.full.clone());
        let (begin, end) = (from.map(|from| from.full.clone()), to.full.clone());
        let ends = Ends { from: begin, to: end, token: None };
        let from = from.map(|from| from.snapshot.guid);
        let header = Header { from, snapshot: to.snapshot.clone(), clone, rest: false };
        Ok(Plan { arguments, ends, header })
    }

    /// See `Datasets::estimate`. Where the tools cannot estimate, the stream is made and counted.
    pub(super) async fn estimate(&self, plan: &Plan) -> Result<u64> {
        if let Some(inside) = self.announced(plan).await? {
            return Ok(stream::length(inside));
        }
        let arguments: Vec<&str> = plan.arguments.iter().map(String::as_str).collect();
        Ok(stream::length(self.count(&arguments).await?))
    }

    /// See `Datasets::estimate_cheaply`. Where the tools cannot estimate, a whole stream is about as long as its snapshot.
    pub(super) async fn estimate_cheaply(&self, plan: &Plan) -> Result<Option<u64>> {
        let inside = match self.announced(plan).await? {
            None if plan.ends.from.is_none() => {
                let get = ["get", "-Hp", "-o", "value", "referenced", &plan.ends.to];
                words::number(self.tools.zfs(&get).await?.trim())
            }
            announced => announced,
        };
        Ok(inside.map(stream::length))
    }

    /// The length that the pool announces, where it can.
    async fn announced(&self, plan: &Plan) -> Result<Option<u64>> {
        if let Some(estimated) = self.library.estimate(&plan.ends).await {
            return estimated.map(Some);
        }
        if !self.can.estimate {
            return Ok(None);
        }
        let (send, rest) = plan.arguments.split_at(1);
        let dry = ["-n", "-v", "-P"].map(str::to_owned);
        let arguments: Vec<String> =
            send.iter().cloned().chain(dry).chain(rest.iter().cloned()).collect();
        let out = self.tools.zfs_list(&arguments).await?;
        let size = words::estimate(&out).ok_or_else(|| Cause::Program {
            program: "zfs send -nvP".to_owned(),
            said: format!("`{}` has no size", out.trim()),
        });
        size.map(Some)
    }

    /// Makes a stream and writes it.
    pub(super) async fn produce(
        &self,
        plan: &Plan,
        out: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<u64> {
        let mut stream = match self.library.send(&plan.ends).await {
            Some(stream) => stream?,
            None => self.tools.outward(&plan.arguments)?,
        };
        let mut writer = Writer::begin(out, &plan.header).await?;
        let mut buffer = vec![0; PIECE];
        loop {
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                break;
            }
            writer.piece(buffer.get(..read).unwrap_or_default()).await?;
        }
        // Only a stream that came to its own end gets ours.
        stream.end().await?;
        writer.end().await
    }

    /// The rest of a stream of which another pool has a part.
    pub(super) async fn rest(&self, id: DatasetId, token: &str, to: Guid) -> Result<Plan> {
        let found = self.must(id).await?;
        let plain = token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !self.can.resume || !plain || !token.starts_with("1-") {
            return Err(Cause::NoSnapshot(to));
        }
        let said = match self.tools.zfs(&["send", "-n", "-v", "-P", "-t", token]).await {
            Ok(said) => said,
            Err(cause @ (Cause::Hanging { .. } | Cause::ProgramMissing { .. })) => {
                return Err(cause);
            }
            // Damaged, or of a snapshot that is not here any more.
            Err(_) => return Err(Cause::NoSnapshot(to)),
        };
        let (from, of) = words::token_guids(&said);
        let snap = match of {
            Some(of) if of == to.0 => found.snap(to)?,
            Some(_) | None => return Err(Cause::NoSnapshot(to)),
        };
        let begin = from.map(|from| found.base(Guid(from))).transpose()?;
        let ends = Ends {
            from: begin.map(|snap| snap.full.clone()),
            to: snap.full.clone(),
            token: Some(token.to_owned()),
        };
        let snapshot = snap.snapshot.clone();
        let arguments = ["send", "-t", token].map(str::to_owned).to_vec();
        let header = Header { from: from.map(Guid), snapshot, clone: false, rest: true };
        Ok(Plan { arguments, ends, header })
    }
}
