//! What the tour says at its end: every number with where it was measured, and every promise that was not kept. Pure.

use scrap_schema::api::{FailoverView, OrphanView};
use scrap_schema::id::Name;

use super::ledger::Lost;
use super::seconds;

/// A move under load.
#[derive(Debug, Clone)]
pub(super) struct Migration {
    pub(super) from: Name,
    pub(super) to: Name,
    /// Predicted before.
    pub(super) expected_ms: Option<u64>,
    /// As the operation says.
    pub(super) inside_ms: Option<u64>,
    /// As the visitor saw it.
    pub(super) outside_ms: u64,
    /// Acknowledged entries that are gone.
    pub(super) lost: u64,
}

/// A failover after a power cut.
#[derive(Debug, Clone)]
pub(super) struct Failover {
    pub(super) from: Name,
    pub(super) to: Name,
    /// As the visitor saw it.
    pub(super) outside_ms: u64,
    /// Acknowledged entries that are gone.
    pub(super) lost: Lost,
    /// What the cluster says.
    pub(super) reported: FailoverView,
    /// In which way it says too little.
    pub(super) understated: Option<String>,
}

/// The whole tour.
#[derive(Debug, Clone)]
pub(super) struct Report {
    /// Acknowledged entries.
    pub(super) signed: usize,
    /// Acknowledged entries that are gone at the end.
    pub(super) lost_in_all: u64,
    /// What speaks for two nodes having answered at once.
    pub(super) double_run: Option<String>,
    pub(super) now_on: Name,
    pub(super) copies: Vec<Name>,
    pub(super) migration: Migration,
    pub(super) failover: Failover,
    /// What the dead node had newer.
    pub(super) orphan: Option<OrphanView>,
    pub(super) url: String,
}

impl Report {
    /// The report, for people.
    pub(super) fn text(&self) -> String {
        let mut lines = vec![String::new(), "What happened".to_owned()];
        let mut line = |what: &str, how: String| lines.push(format!("  {what:<22} {how}"));
        line("signed", format!("{} entries were acknowledged", self.signed));
        let (moved, failed) = (&self.migration, &self.failover);
        line("move", format!("{} -> {}", moved.from, moved.to));
        let ms =
            |ms: Option<u64>| ms.map_or_else(|| "not said".to_owned(), |ms| format!("{ms} ms"));
        line(
            "  downtime",
            format!(
                "{} by the operation, {} ms seen from outside, predicted {}",
                ms(moved.inside_ms),
                moved.outside_ms,
                ms(moved.expected_ms)
            ),
        );
        line("  acknowledged, lost", moved.lost.to_string());
        line(
            "power cut",
            format!("{} -> {}, epoch {}", failed.from, failed.to, failed.reported.epoch),
        );
        line("  downtime", format!("{:.1} s seen from outside", seconds(failed.outside_ms)));
        let lost = &failed.lost;
        line(
            "  acknowledged, lost",
            format!(
                "{} entries, {} bytes, written within {:.2} s",
                lost.entries,
                lost.bytes,
                lost.seconds()
            ),
        );
        line("  reported as lost", reported(&failed.reported));
        match &self.orphan {
            Some(orphan) => {
                line(
                    "  kept aside",
                    format!("about {} newer on {}", orphan.newer.rounded(), orphan.node),
                );
                line("", format!("scrapctl orphan info {}", orphan.id));
            }
            None => line("  kept aside", "nothing is listed".to_owned()),
        }
        let copies: Vec<&str> = self.copies.iter().map(Name::as_str).collect();
        line("now", format!("{} on {}, copies on {}", self.url, self.now_on, copies.join(" and ")));
        for broken in self.broken() {
            lines.push(format!("  BROKEN PROMISE: {broken}"));
        }
        lines.push(String::new());
        lines.join("\n")
    }

    /// Every promise that was not kept.
    pub(super) fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        if self.migration.lost > 0 {
            broken
                .push(format!("{} acknowledged entries were lost in a move", self.migration.lost));
        }
        if self.lost_in_all > self.migration.lost + self.failover.lost.entries {
            let (all, known) = (self.lost_in_all, self.failover.lost.entries);
            broken.push(format!(
                "{all} acknowledged entries are gone, the failover explains {known}"
            ));
        }
        broken.extend(
            self.failover
                .understated
                .iter()
                .map(|how| format!("the reported loss is too small: {how}")),
        );
        broken
            .extend(self.double_run.iter().map(|how| format!("two nodes answered at once: {how}")));
        if self.failover.lost.entries > 0 && self.orphan.is_none() {
            broken.push("what the dead node had newer is not listed as an orphan".to_owned());
        }
        broken
    }
}

/// What the cluster says about a loss.
fn reported(view: &FailoverView) -> String {
    let Some(loss) = &view.loss else { return "nothing".to_owned() };
    let bytes = match loss.last_known_bytes {
        Some(bytes) => format!(", {} when last heard of", bytes.rounded()),
        None => String::new(),
    };
    format!("at most {:.2} s{bytes}", seconds(loss.window_ms))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use scrap_schema::id::{Epoch, GrainId};
    use scrap_schema::operation::Loss;
    use scrap_schema::snapshot::{Guid, Snapshot};
    use scrap_schema::time::Timestamp;
    use scrap_schema::unit::Bytes;

    use super::*;

    fn report() -> Report {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let loss = Loss {
            from: Timestamp(1_000),
            until: Timestamp(4_500),
            window_ms: 3_500,
            heard: None,
            last_known_bytes: Some(Bytes(2048)),
        };
        let head = Snapshot {
            name: "scrap.0000000000000002.0000000000000007.orphan".parse().unwrap(),
            guid: Guid(1),
            created: Timestamp(2_000),
        };
        Report {
            signed: 900,
            lost_in_all: 17,
            double_run: None,
            now_on: name("cleo"),
            copies: vec![name("ada"), name("ben")],
            migration: Migration {
                from: name("ada"),
                to: name("ben"),
                expected_ms: Some(400),
                inside_ms: Some(310),
                outside_ms: 350,
                lost: 0,
            },
            failover: Failover {
                from: name("ben"),
                to: name("cleo"),
                outside_ms: 20_400,
                lost: Lost {
                    entries: 17,
                    bytes: 1190,
                    window: Some((Timestamp(2_000), Timestamp(2_340))),
                    certain: Some((Timestamp(2_010), Timestamp(2_330))),
                },
                reported: FailoverView {
                    at: Timestamp(22_000),
                    from: name("ben"),
                    to: name("cleo"),
                    epoch: Epoch(3),
                    loss: Some(loss),
                },
                understated: None,
            },
            orphan: Some(OrphanView {
                id: "x.2@ben".to_owned(),
                grain: GrainId(1),
                grain_name: None,
                node: name("ben"),
                epoch: Epoch(2),
                head,
                base: None,
                newer: Bytes(1190),
                used: Bytes(4096),
                kept: Timestamp(30_000),
                operation: None,
            }),
            url: "http://127.0.0.1:7300".to_owned(),
        }
    }

    #[test]
    fn a_good_tour_reads_like_this() {
        assert!(report().broken().is_empty());
        expect![[r#"

            What happened
              signed                 900 entries were acknowledged
              move                   ada -> ben
                downtime             310 ms by the operation, 350 ms seen from outside, predicted 400 ms
                acknowledged, lost   0
              power cut              ben -> cleo, epoch 3
                downtime             20.4 s seen from outside
                acknowledged, lost   17 entries, 1190 bytes, written within 0.34 s
                reported as lost     at most 3.50 s, 2.0 KiB when last heard of
                kept aside           about 1.2 KiB newer on ben
                                     scrapctl orphan info x.2@ben
              now                    http://127.0.0.1:7300 on cleo, copies on ada and ben
        "#]].assert_eq(&report().text());
    }

    #[test]
    fn every_broken_promise_is_said() {
        let good = report();
        assert_eq!(Report { lost_in_all: 18, ..good.clone() }.broken().len(), 1);
        let lost =
            Report { migration: Migration { lost: 1, ..good.migration.clone() }, ..good.clone() };
        assert_eq!(lost.broken().len(), 1);
        let failover =
            Failover { understated: Some("too small".to_owned()), ..good.failover.clone() };
        assert_eq!(Report { failover, ..good.clone() }.broken().len(), 1);
        assert_eq!(
            Report { double_run: Some("both".to_owned()), ..good.clone() }.broken().len(),
            1
        );
        let unlisted = Report { orphan: None, ..good.clone() };
        assert_eq!(unlisted.broken().len(), 1);
        assert!(unlisted.text().contains("BROKEN PROMISE: what the dead node had newer"));
        // Nothing was lost: there is nothing to set aside.
        let failover = Failover { lost: Lost::default(), ..good.failover.clone() };
        assert!(Report { failover, orphan: None, lost_in_all: 0, ..good }.broken().is_empty());
    }
}
